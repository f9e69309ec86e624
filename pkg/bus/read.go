package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Mark is how far streams were read.
type Mark struct {
	since   time.Time
	streams []string
	places  map[string]place
}

// Read calls fn with every message of this cluster that the streams have
// stored since (the zero time: ever), one stream after the other and each in
// order, and returns once it has read what was stored when it began. It ends
// early when ctx is done, when fn returns an error, and when a stream cannot be
// read; TailFrom goes on where it ended.
func (b *Bus) Read(ctx context.Context, streams []string, since time.Time, fn func(Raw) error) (Mark, error) {
	m := Mark{since: since, streams: streams, places: map[string]place{}}
	for _, stream := range streams {
		at, err := b.readStored(ctx, stream, since, fn)
		m.places[stream] = at
		if err != nil {
			return m, fmt.Errorf("read %s: %w", stream, err)
		}
	}
	return m, nil
}

// errAllRead ends a reading that has come to its end.
var errAllRead = errors.New("all is read")

func (b *Bus) readStored(ctx context.Context, stream string, since time.Time, fn func(Raw) error) (at place, err error) {
	waiting, done := b.waits.add(ctx, mentions(stream), true)
	defer done()
	var it jetstream.MessagesContext
	var left uint64
	err = b.request(waiting, 2*b.pace.answer, stream, mentions(stream), func(ctx context.Context) (err error) {
		it, left, err = b.iterate(ctx, stream, since, &at)
		return err
	})
	if err != nil {
		return at, err
	}
	defer it.Stop()
	if left == 0 {
		return at, nil
	}
	err = b.inOrder(waiting, stream, it, func(msg jetstream.Msg, md *jetstream.MsgMetadata) error {
		r := raw(stream, msg, md)
		if err := fn(r); err != nil {
			return err
		}
		at.last = r.Seq
		if left--; left == 0 {
			return errAllRead
		}
		return nil
	})
	if errors.Is(err, errAllRead) {
		return at, nil
	}
	if ctx.Err() != nil {
		return at, context.Cause(ctx)
	}
	return at, err
}

func raw(stream string, msg jetstream.Msg, md *jetstream.MsgMetadata) Raw {
	return Raw{Subject: msg.Subject(), Stream: stream, Seq: md.Sequence.Stream, Time: md.Timestamp, Header: msg.Headers(), Data: msg.Data()}
}

// Latest is the last message of each subject of the topic, in the order in
// which they were stored. What does not decode is passed over.
func (t Topic[T]) Latest(ctx context.Context, b *Bus) ([]heal.Event[T], error) {
	waiting, done := b.waits.add(ctx, mentions(t.Stream), true)
	defer done()
	it, left, err := b.latest(waiting, t.Stream, heal.SubjectRoot+"."+heal.Token(b.cluster)+"."+t.Root+".>", mentions(t.Stream))
	if err != nil {
		return nil, fmt.Errorf("latest of %s: %w", t.Root, err)
	}
	defer it.Stop()
	var events []heal.Event[T]
	if left == 0 {
		return nil, nil
	}
	err = b.inOrder(waiting, t.Stream, it, func(msg jetstream.Msg, _ *jetstream.MsgMetadata) error {
		if e, err := heal.Decode[T](msg.Data()); err == nil {
			events = append(events, e)
		}
		if left--; left == 0 {
			return errAllRead
		}
		return nil
	})
	if !errors.Is(err, errAllRead) {
		return events, fmt.Errorf("latest of %s: %w", t.Root, err)
	}
	return events, nil
}
