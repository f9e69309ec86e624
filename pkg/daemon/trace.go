package daemon

import (
	"context"
	"log/slog"
	"os"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/selfheal/selfheal/pkg/heal"
)

// startTracing makes every message carry a trace context, and sends the spans
// to the collector that OpenTelemetry's own environment names, if there is
// one. A collector that is away or slow costs a log line and spans, never the
// service's time: spans are sent in the background from a queue of fixed size.
func startTracing(ctx context.Context, service string, log *slog.Logger) (flush func(context.Context), err error) {
	release, _ := Version()
	about := resource.NewSchemaless(
		attribute.String("service.name", heal.Product+"-"+service),
		attribute.String("service.version", release),
	)
	if merged, err := resource.Merge(resource.Default(), about); err == nil {
		about = merged
	}
	options := []trace.TracerProviderOption{trace.WithResource(about)}
	if os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "" {
		otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
			log.Warn("traces are not delivered", "err", err)
		}))
		exporter, err := otlptracehttp.New(ctx)
		if err != nil {
			return nil, err
		}
		options = append(options, trace.WithBatcher(exporter))
	}
	// Without an exporter too: the ids of a trace are made here, and whoever
	// exports further down the pipeline continues it.
	provider := trace.NewTracerProvider(options...)
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetTracerProvider(provider)
	return func(ctx context.Context) {
		if err := provider.Shutdown(ctx); err != nil {
			log.Warn("the last traces are not delivered", "err", err)
		}
	}, nil
}
