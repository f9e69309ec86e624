package bus

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Topic ties a payload type to the stream that stores it.
type Topic[T heal.Payload] struct {
	Stream string // with the prefix
	Root   string // first route token of its subjects: "failures"
	Signed bool   // each message says by its signature who made it
}

// The pipeline, in order; and where messages go that a stage gave up.
var (
	Failures      = Topic[heal.Failure]{Stream: failuresStream, Root: "failures"}
	Decisions     = Topic[heal.Decision]{Stream: decisionsStream, Root: "decisions", Signed: true}
	Approvals     = Topic[heal.Approval]{Stream: decisionsStream, Root: "approvals"}
	Controls      = Topic[heal.Control]{Stream: decisionsStream, Root: "control"}
	Results       = Topic[heal.Result]{Stream: resultsStream, Root: "results"}
	Notifications = Topic[heal.Notification]{Stream: notificationsStream, Root: "notifications"}
	DeadLetters   = Topic[heal.DeadLetter]{Stream: dlqStream, Root: "dlq"}
)

// Headers of every message.
const (
	headerContentType = "Content-Type"
	headerIncident    = "Selfheal-Incident"
	headerSeverity    = "Selfheal-Severity"
)

// Publish stores data in its envelope and returns once the server has it.
// Storing the same id again within the stream's duplicate window is success.
// An error marked Permanent cannot be cured by another attempt.
func (t Topic[T]) Publish(ctx context.Context, b *Bus, data T) error {
	if err := data.Validate(); err != nil {
		return Permanent(fmt.Errorf("publish to %s: %w", t.Root, err))
	}
	head := data.Head()
	subject := head.Subject(b.cluster)
	ctx, span := b.tracer.Start(ctx, "publish "+t.Root, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
		attribute.String("messaging.system", "nats"),
		attribute.String("messaging.destination.name", subject),
		attribute.String("messaging.message.id", head.ID),
	))
	defer span.End()
	err := t.publish(ctx, b, head, subject, data)
	if err != nil {
		err = fmt.Errorf("publish %s to %s: %w", head.ID, subject, err)
		span.RecordError(err)
		span.SetStatus(codes.Error, "not stored")
	}
	return err
}

func (t Topic[T]) publish(ctx context.Context, b *Bus, head heal.Head, subject string, data T) error {
	m := nats.NewMsg(subject)
	m.Header.Set(headerContentType, heal.ContentType)
	m.Header.Set(nats.MsgIdHdr, head.ID)
	inject(ctx, m.Header)
	if head.Incident != "" {
		m.Header.Set(headerIncident, head.Incident)
	}
	if head.Severity != "" {
		m.Header.Set(headerSeverity, string(head.Severity))
	}
	event := heal.NewEvent(data, b.cluster, b.service, time.Now())
	event.TraceParent = m.Header.Get(headerTraceParent)
	body, err := json.Marshal(event)
	if err != nil {
		return Permanent(err)
	}
	m.Data = body
	if t.Signed {
		if err := b.mark(m); err != nil {
			return err
		}
	}
	if size, limit := size(m), b.limits[t.Stream]; limit > 0 && size > limit {
		return Permanent(fmt.Errorf("too large: %d bytes, stream %s takes %d", size, t.Stream, limit))
	}
	_, err = b.store(ctx, t.Stream, m)
	return err
}

// size is what the server compares with a stream's largest message: headers,
// as they go over the wire, and body.
func size(m *nats.Msg) int {
	n := len("NATS/1.0\r\n") + len("\r\n") + len(m.Data)
	for key, values := range m.Header {
		for _, v := range values {
			n += len(key) + len(": ") + len(v) + len("\r\n")
		}
	}
	return n
}
