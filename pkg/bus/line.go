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
	"github.com/prometheus/client_golang/prometheus"

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

	lag, processing prometheus.Observer // of the stream
}

// A delivery is one message, as it was given to us this time.
type delivery struct {
	*nats.Msg
	*nats.MsgMetadata
}

// run keeps the consumer in place and at work until ctx is done.
func (l *line) run(ctx context.Context) error {
	about := "consumer " + l.c.Name + " on " + l.stream
	defer l.b.problem(about, nil)
	l.b.metrics.expect(l.stream, l.c.Name)
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
	ctx, done := l.b.waits.add(ctx, l.subjects(), false)
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
	var all sync.WaitGroup
	for range l.c.Workers {
		all.Go(func() { stop(l.work(ctx)) })
	}
	all.Go(func() { stop(l.gauge(ctx, cons)) })
	all.Wait()
	return l.b.explain(ctx, l.stream, context.Cause(ctx))
}

// subjects are what a request about the consumer may be refused for.
func (l *line) subjects() func(string) bool { return mentions(l.stream + "." + l.c.Name) }

// place finds the consumer, creates it, or makes it what it should be.
func (l *line) place(ctx context.Context) (cons jetstream.Consumer, err error) {
	err = l.b.request(ctx, 2*l.b.pace.answer, l.stream, l.subjects(), func(ctx context.Context) error {
		cons, err = l.b.js.Consumer(ctx, l.stream, l.c.Name)
		if errors.Is(err, jetstream.ErrConsumerNotFound) {
			cons, err = l.b.js.CreateOrUpdateConsumer(ctx, l.stream, l.shape(jetstream.ConsumerConfig{}))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	have := cons.CachedInfo().Config
	// Two clusters on one account would take turns to change it, and each
	// would be given, and give up, the other's messages.
	if prefix := l.prefix(); !strings.HasPrefix(have.FilterSubject, prefix) {
		return nil, fmt.Errorf("filter_subject is %q, want it below %q: it serves another cluster or topic; delete it, or give each cluster a NATS account of its own", have.FilterSubject, prefix)
	}
	want := l.shape(have)
	diffs := consumerDifferences(have, want)
	if len(diffs) == 0 {
		return cons, nil // a service may be allowed to look, but not to create
	}
	err = l.b.request(ctx, l.b.pace.answer, l.stream, l.subjects(), func(ctx context.Context) error {
		cons, err = l.b.js.UpdateConsumer(ctx, l.stream, want)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s; update: %w", strings.Join(diffs, "; "), err)
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

// look returns an error only if the consumer is no more.
func (l *line) look(ctx context.Context, cons jetstream.Consumer) error {
	ctx, cancel := context.WithTimeout(ctx, l.b.pace.answer)
	defer cancel()
	info, err := cons.Info(ctx)
	switch {
	case errors.Is(err, jetstream.ErrConsumerNotFound), errors.Is(err, jetstream.ErrStreamNotFound):
		return err
	case err == nil: // else it is the connection's trouble, told by Ready
		l.b.metrics.pending.WithLabelValues(l.stream, l.c.Name).Set(float64(info.NumPending))
		l.b.metrics.ackPending.WithLabelValues(l.stream, l.c.Name).Set(float64(info.NumAckPending))
		l.b.metrics.redelivered.WithLabelValues(l.stream, l.c.Name).Set(float64(info.NumRedelivered))
	}
	return nil
}
