package actuate

import (
	"context"

	"go.opentelemetry.io/otel"
)

// span begins a part of the decision's trace, which shows where the time goes
// between a decision and its change. What it returns ends it.
func span(ctx context.Context, name string) (_ context.Context, end func()) {
	ctx, s := otel.Tracer("github.com/selfheal/selfheal/services/actuator").Start(ctx, name)
	return ctx, func() { s.End() }
}
