package bus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// again reads until ctx is done, and anew whenever the reading breaks off. What
// is read names it where the bus says why it is not ready, and in the log. It
// fails only when the server refuses it, or the bus is closed.
func (b *Bus) again(ctx context.Context, what string, read func() error) error {
	defer b.problem(what, nil)
	for {
		err := read()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", what, err)
		}
		if errors.Is(err, ErrPermission) || b.isClosed() {
			return err
		}
		if err != nil && b.problem(what, err) {
			b.log.Warn("reading broke off, trying again", "of", what, "err", err)
		}
		if !b.wait(ctx, b.pace.retry) {
			return nil
		}
	}
}

// latest begins to read the last message of each subject that matches filter,
// and what is stored after them. Old is how many of them there are.
func (b *Bus) latest(ctx context.Context, stream, filter string, ours func(subject string) bool) (it jetstream.MessagesContext, old uint64, err error) {
	err = b.request(ctx, 2*b.pace.answer, stream, ours, func(ctx context.Context) error {
		cons, err := b.js.CreateConsumer(ctx, stream, jetstream.ConsumerConfig{
			FilterSubject:     filter,
			DeliverPolicy:     jetstream.DeliverLastPerSubjectPolicy,
			AckPolicy:         jetstream.AckNonePolicy,
			MemoryStorage:     true,
			InactiveThreshold: time.Minute,
		})
		if err != nil {
			return err
		}
		old = cons.CachedInfo().NumPending
		it, err = cons.Messages()
		return err
	})
	return it, old, err
}

// inOrder hands over what it brings, until something breaks off the reading:
// an error of take, or of the server, or a message that is missing.
func (b *Bus) inOrder(ctx context.Context, stream string, it jetstream.MessagesContext, take func(jetstream.Msg, *jetstream.MsgMetadata) error) error {
	for order := uint64(1); ; order++ {
		msg, err := it.Next(jetstream.NextContext(ctx))
		if err != nil {
			return b.explain(ctx, stream, err)
		}
		md, err := msg.Metadata()
		if err != nil {
			return err
		}
		if md.Sequence.Consumer != order {
			return fmt.Errorf("message %d of the reading is missing", order)
		}
		if err := take(msg, md); err != nil {
			return err
		}
	}
}
