package bus

import (
	"context"
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

// Journals are the streams of what happens, in the order of the pipeline: of
// failures, decisions (with approvals and controls), results, notifications
// and dead letters. Audit holds the first three of them for longest.
var (
	Journals = []string{failuresStream, decisionsStream, resultsStream, notificationsStream, dlqStream}
	Audit    = []string{auditStream}
)

// Tail calls fn, one message at a time and in the order of each stream, with
// every message of this cluster that the Journals stored since, until ctx is
// done or fn returns an error. It waits for streams that do not exist yet.
func (b *Bus) Tail(ctx context.Context, since time.Time, fn func(Raw) error) error {
	return b.TailFrom(ctx, Mark{since: since, streams: Journals}, fn)
}

// TailFrom is Tail of what a Read has not read, of the same streams.
func (b *Bus) TailFrom(ctx context.Context, m Mark, fn func(Raw) error) error {
	g, ctx := errgroup.WithContext(ctx)
	raws := make(chan Raw)
	for _, stream := range m.streams {
		g.Go(func() error { return b.tail(ctx, stream, m.since, m.places[stream], raws) })
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

// A place is how far a stream was read.
type place struct {
	created time.Time // the stream, to tell it from a later one of its name
	last    uint64
}

// tail sends the messages of one stream until ctx is done. It starts again
// behind the last one whenever the reading breaks off.
func (b *Bus) tail(ctx context.Context, stream string, since time.Time, at place, raws chan<- Raw) error {
	about := "tail of " + stream
	return b.again(ctx, about, func() error { return b.read(ctx, stream, about, since, &at, raws) })
}

// read sends the messages behind at, or since if it has read none, and moves
// at, until something breaks off the reading.
func (b *Bus) read(ctx context.Context, stream, about string, since time.Time, at *place, raws chan<- Raw) error {
	ctx, done := b.waits.add(ctx, mentions(stream), true)
	defer done()
	var it jetstream.MessagesContext
	err := b.request(ctx, 2*b.pace.answer, stream, mentions(stream), func(ctx context.Context) (err error) {
		it, _, err = b.iterate(ctx, stream, since, at)
		return err
	})
	if err != nil {
		return err
	}
	defer it.Stop()
	b.problem(about, nil)
	return b.inOrder(ctx, stream, it, func(msg jetstream.Msg, md *jetstream.MsgMetadata) error {
		r := raw(stream, msg, md)
		select {
		case raws <- r:
			at.last = r.Seq
			return nil
		case <-ctx.Done():
			return b.explain(ctx, stream, ctx.Err())
		}
	})
}

// iterate opens the stream at its place, with a consumer of its own that ends
// by itself. (The client's ordered consumer would go on behind the last
// sequence on a stream that was deleted and made anew, and cannot be stopped
// cleanly while it looks for the server.) Old is how many messages are stored.
func (b *Bus) iterate(ctx context.Context, stream string, since time.Time, at *place) (it jetstream.MessagesContext, old uint64, err error) {
	info, err := b.js.Stream(ctx, stream)
	if err != nil {
		return nil, 0, err
	}
	if created := info.CachedInfo().Created; !created.Equal(at.created) {
		*at = place{created: created}
	}
	config := jetstream.ConsumerConfig{
		FilterSubject:     heal.SubjectRoot + "." + heal.Token(b.cluster) + ".>",
		AckPolicy:         jetstream.AckNonePolicy,
		MemoryStorage:     true,
		InactiveThreshold: time.Minute,
	}
	switch {
	case at.last > 0:
		config.DeliverPolicy, config.OptStartSeq = jetstream.DeliverByStartSequencePolicy, at.last+1
	case !since.IsZero():
		config.DeliverPolicy, config.OptStartTime = jetstream.DeliverByStartTimePolicy, &since
	}
	cons, err := b.js.CreateConsumer(ctx, stream, config)
	if err != nil {
		return nil, 0, err
	}
	it, err = cons.Messages()
	return it, cons.CachedInfo().NumPending, err
}
