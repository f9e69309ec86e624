package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Raw is a stored message as it lies in its stream.
type Raw struct {
	Subject string
	Stream  string
	Seq     uint64
	Time    time.Time
	Header  map[string][]string
	Data    []byte
}

// Tail calls fn, one message at a time and in the order of each stream, with
// every message of this cluster that the streams of failures, decisions (with
// approvals and controls), results, notifications and dead letters stored
// since, until ctx is done or fn returns an error. It waits for streams that
// do not exist yet.
func (b *Bus) Tail(ctx context.Context, since time.Time, fn func(Raw) error) error {
	g, ctx := errgroup.WithContext(ctx)
	raws := make(chan Raw)
	for _, stream := range []string{failuresStream, decisionsStream, resultsStream, notificationsStream, dlqStream} {
		g.Go(func() error { return b.tail(ctx, stream, since, raws) })
	}
	g.Go(func() error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case r := <-raws:
				if err := fn(r); err != nil {
					return err
				}
			}
		}
	})
	return g.Wait()
}

// tail sends the messages of one stream until ctx is done. It starts again
// behind the last one whenever the reading breaks off.
func (b *Bus) tail(ctx context.Context, stream string, since time.Time, raws chan<- Raw) error {
	var last uint64
	about := "tail of " + stream
	defer b.problem(about, nil)
	for {
		err := b.read(ctx, stream, since, &last, raws)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrPermission) || b.isClosed() {
			return fmt.Errorf("tail %s: %w", stream, err)
		}
		if b.problem(about, err) {
			b.log.Warn("stream cannot be read, trying again", "stream", stream, "err", err)
		}
		if !b.wait(ctx, b.pace.retry) {
			return nil
		}
	}
}

// read sends the messages behind *last, or since if that is 0, and moves *last.
func (b *Bus) read(ctx context.Context, stream string, since time.Time, last *uint64, raws chan<- Raw) error {
	if !b.nc.IsConnected() {
		return b.away()
	}
	ctx, done := b.denials.watch(ctx, mentions(stream))
	defer done()
	it, err := b.iterate(ctx, stream, since, last)
	if err != nil {
		return b.explain(ctx, stream, err)
	}
	defer it.Stop()
	defer context.AfterFunc(ctx, it.Stop)() // Next does not hear ctx while it reconnects
	b.problem("tail of "+stream, nil)
	for {
		msg, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return b.explain(ctx, stream, err)
		}
		md, err := msg.Metadata()
		if err != nil {
			return err
		}
		r := Raw{Subject: msg.Subject(), Stream: stream, Seq: md.Sequence.Stream, Time: md.Timestamp, Header: msg.Headers(), Data: msg.Data()}
		select {
		case raws <- r:
			*last = r.Seq
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// iterate opens the stream at its place.
func (b *Bus) iterate(ctx context.Context, stream string, since time.Time, last *uint64) (jetstream.MessagesContext, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*b.pace.answer)
	defer cancel()
	info, err := b.js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	if info.CachedInfo().State.LastSeq < *last {
		*last = 0 // not the stream that we read: it was made anew
	}
	config := jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{heal.SubjectRoot + "." + heal.Token(b.cluster) + ".>"},
		DeliverPolicy:  jetstream.DeliverAllPolicy,
	}
	switch {
	case *last > 0:
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, *last+1
	case !since.IsZero():
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	}
	cons, err := b.js.OrderedConsumer(ctx, stream, config)
	if err != nil {
		return nil, err
	}
	return cons.Messages()
}
