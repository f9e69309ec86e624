package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Consumer is one service's place on a topic.
type Consumer struct {
	Name    string                             // durable name
	Filter  string                             // further subject tokens, such as "slack.>"; empty means all of the topic
	Workers int                                // messages handled at once by this process; default 1
	Timeout time.Duration                      // for one attempt of the handler; default 30 s
	Backoff func(attempt uint64) time.Duration // default Linear(time.Second, 30*time.Second)
}

// A Message is an event as it was delivered.
type Message[T heal.Payload] struct {
	heal.Event[T]
	Attempt uint64    // 1 for the first delivery
	Stored  time.Time // when the stream took it
}

// Consume hands messages to handle until ctx is done, then waits for the
// attempts under way. What handle returns decides what becomes of a message:
//
//	nil              done
//	Permanent(err)   moved to the dead-letter stream
//	Later(err, d)    comes again after d, for as long as it takes
//	any other error  tried again after Backoff
//
// A message that does not decode or validate, or that does not belong on its
// subject, is moved to the dead-letter stream unseen, as is one of a Signed
// topic that nobody of Options.TrustedKeys signed. So is one that failed 8
// times, at its ninth delivery; a panic counts as a failure. What counts as a
// wait rather than as a failure is Later, and every error while the bus itself
// is away or refuses this user.
//
// The server counts deliveries and cannot tell the one from the other, so
// failures are counted here, by this process. Deliveries that it knows nothing
// of (to other replicas, or to a process that died of the message) end a
// message only when they are more than 64.
//
// While the server or the stream is away, Consume waits. It returns an error
// only for a Consumer that can never work, and for ErrPermission.
func (t Topic[T]) Consume(ctx context.Context, b *Bus, c Consumer, handle func(context.Context, Message[T]) error) error {
	c, err := c.withDefaults()
	if err != nil {
		return Permanent(fmt.Errorf("consume %s: %w", t.Root, err))
	}
	l := &line{
		b: b, c: c, stream: t.Stream, root: t.Root,
		log:   b.log.With("consumer", c.Name, "stream", t.Stream),
		tally: newTally(4 * maxAckPending),
		lag:   b.metrics.lag.WithLabelValues(t.Stream), processing: b.metrics.processing.WithLabelValues(t.Stream),
		handle: func(ctx context.Context, d delivery) error {
			if err := t.vouched(b, d); err != nil {
				return err
			}
			event, err := open[T](d, b.cluster, b.limits[t.Stream])
			if err != nil {
				return badMessageError{err}
			}
			return handle(ctx, Message[T]{Event: event, Attempt: d.NumDelivered, Stored: d.Timestamp})
		},
	}
	return l.run(ctx)
}

const maxAckPending = 1000 // a message waiting out its delay counts as well

func (c Consumer) withDefaults() (Consumer, error) {
	if err := checkName("consumer", c.Name); err != nil {
		return c, err
	}
	for token := range strings.SplitSeq(c.Filter, ".") {
		if c.Filter != "" && (token == "" || strings.ContainsAny(token, " \t\r\n")) {
			return c, fmt.Errorf("consumer %s: filter: %q is not a part of a subject", c.Name, heal.Clean(c.Filter, 128))
		}
	}
	if c.Workers <= 0 {
		c.Workers = 1
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Backoff == nil {
		c.Backoff = Linear(time.Second, 30*time.Second)
	}
	return c, nil
}

// badMessageError is about a message that is not what it should be.
type badMessageError struct{ error }

func (e badMessageError) Unwrap() error { return e.error }

// open decodes d and checks that it is what its place says: a message can be
// stored by whoever may publish, or be laundered into a stream as the reply to
// another request.
func open[T heal.Payload](d delivery, cluster string, limit int) (heal.Event[T], error) {
	if n := len(d.Data); n == 0 {
		return heal.Event[T]{}, errors.New("bad-json: the message is empty")
	} else if limit > 0 && n > limit {
		return heal.Event[T]{}, fmt.Errorf("too-large: %d > %d bytes", n, limit)
	}
	event, err := heal.Decode[T](d.Data)
	if err != nil {
		return event, err
	}
	if want := event.Data.Head().Subject(cluster); d.Subject != want {
		return event, fmt.Errorf("subject-mismatch: stored under %q, want %q", heal.Clean(d.Subject, heal.MaxText), heal.Clean(want, heal.MaxText))
	}
	// A message without the header is merely not protected against being
	// stored twice; one with the id of another took its place. What is replayed
	// has one that nothing else has.
	for _, id := range d.Header.Values(nats.MsgIdHdr) {
		if id != event.ID && !strings.HasPrefix(id, replayed+"-") {
			return event, fmt.Errorf("id-mismatch: %s is %q, id is %q", nats.MsgIdHdr, heal.Clean(id, 64), event.ID)
		}
	}
	if !strings.HasPrefix(event.Source, heal.Source(cluster, "")) {
		return event, fmt.Errorf("source: %q is not of cluster %q", heal.Clean(event.Source, heal.MaxText), cluster)
	}
	return event, nil
}
