package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A line is a consumer at work.
type line struct {
	b      *Bus
	c      Consumer
	stream string
	root   string
	log    *slog.Logger
	tally  *tally
	handle func(context.Context, delivery) error
}

// A delivery is one message, as it was given to us this time.
type delivery struct {
	jetstream.Msg
	*jetstream.MsgMetadata
}

// run keeps the consumer in place and at work until ctx is done.
func (l *line) run(ctx context.Context) error {
	about := "consumer " + l.c.Name + " on " + l.stream
	defer l.b.problem(about, nil)
	defer l.b.metrics.forget(l.stream, l.c.Name)
	for {
		err := l.once(ctx, about)
		if ctx.Err() != nil {
			return nil
		}
		err = fmt.Errorf("%s: %w", about, err)
		if errors.Is(err, ErrPermission) || l.b.isClosed() {
			return err
		}
		if l.b.problem(about, err) {
			l.log.Warn("consumer cannot work, trying again", "err", err)
		}
		if !l.b.wait(ctx, l.b.pace.retry) {
			return nil
		}
	}
}

// once works until ctx is done or something about the consumer must be mended.
func (l *line) once(ctx context.Context, about string) error {
	ctx, done := l.b.denials.watch(ctx, mentions(l.stream+"."+l.c.Name))
	defer done()
	cons, err := l.place(ctx)
	if err != nil {
		return err
	}
	if l.b.problem(about, nil) {
		l.log.Info("consumer works again")
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var both sync.WaitGroup
	both.Go(func() { stop(l.pull(ctx, cons)) })
	both.Go(func() { stop(l.gauge(ctx, cons)) })
	both.Wait()
	return l.b.explain(ctx, l.stream, context.Cause(ctx))
}

// place finds the consumer, creates it, or makes it what it should be.
func (l *line) place(ctx context.Context) (jetstream.Consumer, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*l.b.pace.answer)
	defer cancel()
	if !l.b.nc.IsConnected() {
		return nil, l.b.away()
	}
	cons, err := l.b.js.Consumer(ctx, l.stream, l.c.Name)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		cons, err = l.b.js.CreateOrUpdateConsumer(ctx, l.stream, l.shape(jetstream.ConsumerConfig{}))
	}
	if err != nil {
		return nil, l.b.explain(ctx, l.stream, err)
	}
	have := cons.CachedInfo().Config
	// Two clusters on one account would take turns to change it, and each
	// would be given, and give up, the other's messages.
	if root := l.prefix(); !strings.HasPrefix(have.FilterSubject, root) {
		return nil, fmt.Errorf("filter_subject is %q, want it below %q: it serves another cluster or topic; delete it, or give each cluster a NATS account of its own", have.FilterSubject, root)
	}
	want := l.shape(have)
	diffs := consumerDifferences(have, want)
	if len(diffs) == 0 {
		return cons, nil // a service may be allowed to look, but not to create
	}
	if cons, err = l.b.js.UpdateConsumer(ctx, l.stream, want); err != nil {
		return nil, fmt.Errorf("%s; update: %w", strings.Join(diffs, "; "), l.b.explain(ctx, l.stream, err))
	}
	l.log.Info("consumer updated", "changes", diffs)
	return cons, nil
}

// shape returns c with everything as we need it, and the rest as it is.
func (l *line) shape(c jetstream.ConsumerConfig) jetstream.ConsumerConfig {
	c.Durable = l.c.Name
	c.FilterSubject, c.FilterSubjects = l.prefix()+cmp.Or(l.c.Filter, ">"), nil
	c.AckPolicy = jetstream.AckExplicitPolicy
	c.AckWait = l.b.pace.ackWait
	c.MaxDeliver = -1 // any more would park a message in silence
	c.BackOff = nil   // it overrides AckWait, and bends NakWithDelay
	c.MaxAckPending = maxAckPending
	c.InactiveThreshold = 0
	return c
}

// prefix is what all subjects of the topic on this cluster begin with.
func (l *line) prefix() string {
	return heal.SubjectRoot + "." + heal.Token(l.b.cluster) + "." + l.root + "."
}

// consumerDifferences names what about have is not as in want.
func consumerDifferences(have, want jetstream.ConsumerConfig) []string {
	text := func(c jetstream.ConsumerConfig) []string {
		return []string{
			"filter_subject", strings.Join(append(c.FilterSubjects, c.FilterSubject), ","),
			"ack_policy", strings.ToLower(strings.TrimPrefix(c.AckPolicy.String(), "Ack")),
			"ack_wait", c.AckWait.String(),
			"max_deliver", fmt.Sprint(c.MaxDeliver),
			"backoff", fmt.Sprint(c.BackOff),
			"max_ack_pending", fmt.Sprint(c.MaxAckPending),
			"inactive_threshold", c.InactiveThreshold.String(),
		}
	}
	got, wanted := text(have), text(want)
	var diffs []string
	for i := 0; i < len(got); i += 2 {
		if got[i+1] != wanted[i+1] {
			diffs = append(diffs, fmt.Sprintf("%s is %q, want %q", got[i], got[i+1], wanted[i+1]))
		}
	}
	return diffs
}

// pull hands messages to workers until ctx is done or the consumer must be
// mended, and waits for the workers. It asks for as many messages as there are
// workers free: in the client's buffer, 500 by default, a message's ack wait
// would run long before its turn comes, and other replicas would starve.
//
// (It does so by Fetch, as jetstream.Consumer's Messages loses count with so
// short a buffer: it does not ask for the next message when the last came
// before its own request had returned, and hangs until a heartbeat is missed.)
func (l *line) pull(ctx context.Context, cons jetstream.Consumer) error {
	free := make(chan struct{}, l.c.Workers) // one for each idle worker
	for range l.c.Workers {
		free <- struct{}{}
	}
	var busy sync.WaitGroup
	defer busy.Wait()
	work := func(msg jetstream.Msg) {
		busy.Go(func() {
			l.deliver(ctx, msg)
			free <- struct{}{}
		})
	}
	for {
		select {
		case <-free:
		case <-ctx.Done():
			return ctx.Err()
		}
		n := 1 + take(free)
		got, err := l.fetch(ctx, cons, n, work)
		for range n - got {
			free <- struct{}{}
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil, errors.Is(err, context.Canceled), errors.Is(err, jetstream.ErrNoHeartbeat):
		case gone(err):
			return err
		default: // a change of leader, a lost connection: soon over
			l.log.Debug("pull ended", "err", err)
			l.b.wait(ctx, l.b.pace.retry)
		}
	}
}

// take empties c and returns how many it held.
func take(c <-chan struct{}) (n int) {
	for {
		select {
		case <-c:
			n++
		default:
			return n
		}
	}
}

// fetch asks for n messages, hands them over as they come, and returns how
// many did. It ends when all came, after half a minute, when ctx is done, and
// after a reconnect: the request is lost with the connection that it was for.
func (l *line) fetch(ctx context.Context, cons jetstream.Consumer, n int, work func(jetstream.Msg)) (got int, err error) {
	connected := l.b.nextConnect()
	request, cancel := context.WithCancel(ctx)
	defer cancel()
	batch, err := cons.Fetch(n, jetstream.FetchContext(request))
	if err != nil {
		return 0, err
	}
	msgs := batch.Messages()
	for {
		select {
		case msg, open := <-msgs:
			switch {
			case !open:
				return got, batch.Error()
			case ctx.Err() != nil:
				// It came while we were leaving, and need not wait until its
				// ack wait is over. (What the server sends in the instant in
				// which it hears that we leave does wait.)
				_ = msg.Nak()
			default:
				got++
				work(msg)
			}
		case <-connected:
			connected = nil
			cancel()
		}
	}
}

// gone reports whether err says that the consumer is no more.
func gone(err error) bool {
	return errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrConsumerDeleted) ||
		errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, nats.ErrNoResponders)
}

// gauge keeps the consumer's figures fresh.
func (l *line) gauge(ctx context.Context, cons jetstream.Consumer) error {
	tick := time.NewTicker(l.b.pace.refresh)
	defer tick.Stop()
	for {
		if err := l.look(ctx, cons); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (l *line) look(ctx context.Context, cons jetstream.Consumer) error {
	ctx, cancel := context.WithTimeout(ctx, l.b.pace.answer)
	defer cancel()
	info, err := cons.Info(ctx)
	if errors.Is(err, jetstream.ErrConsumerNotFound) || errors.Is(err, jetstream.ErrStreamNotFound) {
		return err
	}
	if err != nil {
		return nil // the connection's trouble, told by Ready
	}
	l.b.metrics.pending.WithLabelValues(l.stream, l.c.Name).Set(float64(info.NumPending))
	l.b.metrics.ackPending.WithLabelValues(l.stream, l.c.Name).Set(float64(info.NumAckPending))
	l.b.metrics.redelivered.WithLabelValues(l.stream, l.c.Name).Set(float64(info.NumRedelivered))
	return nil
}
