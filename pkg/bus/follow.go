package bus

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Follower is one process's view of a topic, beside all others.
type Follower[T heal.Payload] struct {
	Name string // lower case; the stage of its dead letters

	// Take is called with one message at a time. It may get a message again,
	// and an older one than before: Stored tells the order.
	Take func(Message[T])

	// Current is called when everything that the stream holds was taken, also
	// when that is nothing. It is called again after each interruption, at
	// latest. It may be nil.
	Current func()
}

// Follow hands over the last message of each subject of the topic, in the order
// in which they were stored, and from then on every further one, until ctx is
// done. Unlike with Consume, each process gets all of them. After an
// interruption it begins anew.
//
// What does not decode, or does not belong on its subject, is moved to the
// dead-letter stream, once for all followers of the name.
//
// While the server or the stream is away, Follow waits. It returns an error
// only for a Follower that can never work, and for ErrPermission.
func (t Topic[T]) Follow(ctx context.Context, b *Bus, f Follower[T]) error {
	if err := checkName("follower", f.Name); err != nil {
		return Permanent(fmt.Errorf("follow %s: %w", t.Root, err))
	}
	if f.Current == nil {
		f.Current = func() {}
	}
	about := "following of " + t.Root
	return b.again(ctx, about, func() error { return t.follow(ctx, b, f, about) })
}

// follow begins anew, and goes on until something breaks off the reading.
func (t Topic[T]) follow(ctx context.Context, b *Bus, f Follower[T], about string) error {
	ctx, done := b.waits.add(ctx, mentions(t.Stream), true)
	defer done()
	it, old, err := b.latest(ctx, t.Stream, heal.SubjectRoot+"."+heal.Token(b.cluster)+"."+t.Root+".>", mentions(t.Stream))
	if err != nil {
		return err
	}
	defer it.Stop()
	if b.problem(about, nil) {
		b.log.Info("topic is followed again", "topic", t.Root)
	}
	if old == 0 {
		f.Current()
	}
	letters := &line{b: b, c: Consumer{Name: f.Name}, stream: t.Stream, log: b.log}
	return b.inOrder(ctx, t.Stream, it, func(msg jetstream.Msg, md *jetstream.MsgMetadata) error {
		d := delivery{
			&nats.Msg{Subject: msg.Subject(), Header: msg.Headers(), Data: msg.Data()},
			&nats.MsgMetadata{Sequence: nats.SequencePair(md.Sequence), NumDelivered: md.NumDelivered, Timestamp: md.Timestamp},
		}
		event, err := open[T](d, b.cluster, b.limits[t.Stream])
		if err == nil {
			f.Take(Message[T]{Event: event, Attempt: 1, Stored: md.Timestamp})
		} else {
			b.log.Error("message given up, moved to the dead-letter stream", letters.about(d, "reason", heal.DeadBadMessage, "err", err)...)
			if err := letters.bury(ctx, d, fate{reason: heal.DeadBadMessage, err: err}); err != nil {
				return err
			}
		}
		if md.NumPending == 0 {
			f.Current()
		}
		return nil
	})
}
