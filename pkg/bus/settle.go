package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/sign"
)

// panicError is what a handler threw.
type panicError struct {
	value any
	stack []byte
}

func (p panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

// deliver handles one delivery and settles it.
func (l *line) deliver(ctx context.Context, msg *nats.Msg) {
	md, err := msg.Metadata()
	if err != nil || md.Stream != l.stream || md.Consumer != l.c.Name {
		// Somebody other than the stream wrote to our inbox.
		l.log.Error("message of no consumer of ours ignored", "subject", msg.Subject, "reply", msg.Reply, "err", err)
		return
	}
	d := delivery{msg, md}
	seq := md.Sequence.Stream
	// Before anything else: reading it may be what kills us.
	if last, spent := l.tally.spent(seq, md.NumDelivered); spent {
		l.settle(ctx, d, fate{outcome: outcomeDead, reason: heal.DeadPoison, err: fmt.Errorf("delivered %d times, last error: %s", md.NumDelivered, last)})
		return
	}
	if md.NumDelivered == 1 {
		l.lag.Observe(max(0, time.Since(md.Timestamp)).Seconds())
	}
	begin := time.Now()
	err = l.attempt(ctx, d)
	l.processing.Observe(time.Since(begin).Seconds())
	l.settle(ctx, d, judge(err, md.NumDelivered, !l.b.nc.IsConnected(), l.c.Backoff))
}

// attempt runs the handler once, holding the message's lease while it works.
// Shutdown does not interrupt an attempt; its timeout does.
func (l *line) attempt(ctx context.Context, d delivery) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.c.Timeout)
	ctx, span := l.b.tracer.Start(extract(ctx, d.Header), "handle "+l.root, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.destination.name", d.Subject),
		attribute.String("messaging.consumer.group.name", l.c.Name),
		attribute.String("messaging.message.id", d.Header.Get(nats.MsgIdHdr)),
	))
	var lease sync.WaitGroup
	defer lease.Wait()
	defer cancel()
	defer func() {
		if v := recover(); v != nil {
			err = panicError{v, debug.Stack()}
		}
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, "not handled")
		}
		span.End()
	}()
	lease.Go(func() {
		tick := time.NewTicker(l.b.pace.ackWait / 3)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = d.InProgress() // if it is lost, the message comes again: handlers are idempotent
			case <-ctx.Done():
				return
			}
		}
	})
	return l.handle(ctx, d)
}

// A fate is what becomes of a delivery.
type fate struct {
	outcome string
	reason  string        // of a dead letter
	delay   time.Duration // until it comes again
	err     error
}

// judge says what err means for a message that was delivered for the attempt's
// time, and disconnected whether the bus is away at the end of it.
func judge(err error, attempt uint64, disconnected bool, backoff func(uint64) time.Duration) fate {
	var bad badMessageError
	var later laterError
	switch {
	case err == nil:
		return fate{outcome: outcomeOK}
	case errors.Is(err, sign.ErrUntrusted):
		return fate{outcome: outcomeDead, reason: heal.DeadUntrusted, err: err}
	case errors.As(err, &bad):
		return fate{outcome: outcomeDead, reason: heal.DeadBadMessage, err: err}
	case IsPermanent(err):
		return fate{outcome: outcomeDead, reason: heal.DeadRefused, err: err}
	case errors.As(err, &later):
		return fate{outcome: outcomeLater, delay: cmp.Or(max(0, later.delay), backoff(attempt)), err: err}
	case disconnected, isAway(err), errors.Is(err, ErrPermission):
		return fate{outcome: outcomeLater, delay: backoff(attempt), err: err}
	}
	return fate{outcome: outcomeRetry, delay: backoff(attempt), err: err}
}

// settle tells the server what becomes of d. What it does not hear, for the
// connection is away, comes again.
func (l *line) settle(ctx context.Context, d delivery, f fate) {
	if f.outcome == outcomeDead {
		if err := l.bury(ctx, d, f); err != nil {
			l.log.Error("dead letter cannot be stored, message kept and tried again", l.about(d, "reason", f.reason, "err", err)...)
			f = fate{outcome: outcomeLater, delay: l.c.Backoff(d.NumDelivered), err: f.err}
		}
	}
	l.b.metrics.processed.WithLabelValues(l.stream, f.outcome).Inc()
	seq := d.Sequence.Stream
	var err error
	switch f.outcome {
	case outcomeOK:
		l.tally.forget(seq)
		err = d.Ack()
	case outcomeDead:
		l.tally.forget(seq)
		l.log.Error("message given up, moved to the dead-letter stream", l.about(d, "reason", f.reason, "err", f.err)...)
		err = l.b.nc.Publish(d.Reply, []byte("+TERM "+heal.Clean(f.reason+": "+f.err.Error(), heal.MaxText)))
	case outcomeLater:
		l.tally.waited(seq)
		l.log.Debug("message waits", l.about(d, "delay", f.delay, "err", f.err)...)
		err = d.NakWithDelay(f.delay)
	case outcomeRetry:
		attrs := l.about(d, "failures", l.tally.failed(seq, f.err), "delay", f.delay, "err", f.err)
		var p panicError
		if errors.As(f.err, &p) {
			attrs = append(attrs, "stack", string(p.stack))
		}
		l.log.Warn("attempt failed, trying again", attrs...)
		err = d.NakWithDelay(f.delay)
	}
	if err != nil {
		l.log.Warn("message not settled, it comes again", l.about(d, "outcome", f.outcome, "err", err)...)
	}
}

// about is what the log tells of a delivery, besides attrs.
func (l *line) about(d delivery, attrs ...any) []any {
	return append([]any{
		"subject", d.Subject, "sequence", d.Sequence.Stream, "attempt", d.NumDelivered,
		"id", d.Header.Get(nats.MsgIdHdr), "incident", d.Header.Get(headerIncident),
	}, attrs...)
}
