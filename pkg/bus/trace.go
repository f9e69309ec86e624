package bus

import (
	"context"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/propagation"
)

// headerTraceParent is W3C trace context. Lower case, as the specification
// has it: NATS headers are case-sensitive, and propagation.HeaderCarrier
// would write "Traceparent".
const headerTraceParent = "traceparent"

// carrier reads and writes trace context in NATS headers as they are.
type carrier nats.Header

func (c carrier) Get(key string) string { return nats.Header(c).Get(key) }

func (c carrier) Set(key, value string) { nats.Header(c).Set(key, value) }

func (c carrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}

// inject writes ctx's trace into the headers, if it has one.
func inject(ctx context.Context, h nats.Header) {
	propagation.TraceContext{}.Inject(ctx, carrier(h))
}

// extract returns ctx with the trace that the headers carry, if any.
func extract(ctx context.Context, h nats.Header) context.Context {
	return propagation.TraceContext{}.Extract(ctx, carrier(h))
}
