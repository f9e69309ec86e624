package daemon

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
)

type idsKey struct{}

type ids struct{ incident, decision string }

// WithIDs makes every log record written with the context carry the ids, so
// that one incident can be followed through all services. An empty id leaves
// what the context has.
func WithIDs(ctx context.Context, incident, decision string) context.Context {
	now, _ := ctx.Value(idsKey{}).(ids)
	if incident != "" {
		now.incident = incident
	}
	if decision != "" {
		now.decision = decision
	}
	return context.WithValue(ctx, idsKey{}, now)
}

// LogHandler wraps next: records carry the incident_id and decision_id of
// their context (WithIDs) and its trace_id, and no message is logged more than
// ten times a second. What was left out is told by the next record of that
// message, as "suppressed".
func LogHandler(next slog.Handler) slog.Handler {
	if h, ok := next.(*logHandler); ok {
		return h
	}
	return &logHandler{next: next, limit: &limiter{windows: map[string]window{}}}
}

type logHandler struct {
	next  slog.Handler
	limit *limiter // shared by all loggers derived from one

	// The first WithGroup and all that follows, put off until Handle has added
	// the ids: after it they would be fields of the group.
	grouped []func(slog.Handler) slog.Handler
}

func (h *logHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.next.Enabled(ctx, level)
}

func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	suppressed, ok := h.limit.allow(r)
	if !ok {
		return nil
	}
	var attrs []slog.Attr
	now, _ := ctx.Value(idsKey{}).(ids)
	if now.incident != "" {
		attrs = append(attrs, slog.String("incident_id", now.incident))
	}
	if now.decision != "" {
		attrs = append(attrs, slog.String("decision_id", now.decision))
	}
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		attrs = append(attrs, slog.String("trace_id", span.TraceID().String()))
	}
	if suppressed > 0 {
		attrs = append(attrs, slog.Int("suppressed", suppressed))
	}
	if h.grouped == nil {
		r = r.Clone()
		r.AddAttrs(attrs...)
		return h.next.Handle(ctx, r)
	}
	next := h.next.WithAttrs(attrs)
	for _, with := range h.grouped {
		next = with(next)
	}
	return next.Handle(ctx, r)
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.with(func(next slog.Handler) slog.Handler { return next.WithAttrs(attrs) }, false)
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return h.with(func(next slog.Handler) slog.Handler { return next.WithGroup(name) }, true)
}

// with derives a handler. Before the first group it can be applied at once;
// from then on it has to wait until Handle has added the ids.
func (h *logHandler) with(change func(slog.Handler) slog.Handler, group bool) slog.Handler {
	derived := *h
	if group || h.grouped != nil {
		derived.grouped = append(slices.Clip(h.grouped), change)
	} else {
		derived.next = change(h.next)
	}
	return &derived
}

const (
	linesPerSecond = 10
	maxMessages    = 1024 // messages are constant text, so this is never reached unless one is not
)

// A limiter counts the records of each message within the current second.
type limiter struct {
	mu      sync.Mutex // guards windows
	windows map[string]window
}

type window struct {
	start         time.Time
	lines, missed int
}

// allow reports whether r may be logged, and how many like it were not since
// the last that was.
func (l *limiter) allow(r slog.Record) (suppressed int, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.windows[r.Message]
	if age := r.Time.Sub(w.start); age < 0 || age >= time.Second {
		w = window{start: r.Time, missed: w.missed}
	}
	if w.lines >= linesPerSecond {
		w.missed++
		l.windows[r.Message] = w
		return 0, false
	}
	suppressed, w.missed = w.missed, 0
	w.lines++
	if len(l.windows) >= maxMessages {
		clear(l.windows)
	}
	l.windows[r.Message] = w
	return suppressed, true
}
