package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

func TestAPublishedMessageIsTheContracts(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "watcher")
	f := failure("cart.v2")
	if err := bus.Failures.Publish(t.Context(), b, f); err != nil {
		t.Fatal(err)
	}
	stream, err := s.JetStream(t).Stream(t.Context(), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if want := "selfheal.v1.test.failures.pod_failure.shop.pod.cart_v2"; m.Subject != want {
		t.Errorf("subject: got %s, want %s", m.Subject, want)
	}
	want := nats.Header{
		"Content-Type":      {"application/cloudevents+json; charset=utf-8"},
		"Nats-Msg-Id":       {f.EventID()},
		"Selfheal-Incident": {f.IncidentID()},
		"Selfheal-Severity": {"medium"},
	}
	for _, its := range []string{jetstream.StreamHeader, jetstream.SubjectHeader, jetstream.SequenceHeader, jetstream.TimeStampHeaer} {
		m.Header.Del(its) // what the server adds to an answer
	}
	if diff := cmp.Diff(want, m.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
	var envelope struct{ ID, Source, Subject, Correlationid string }
	if err := json.Unmarshal(m.Data, &envelope); err != nil {
		t.Fatal(err)
	}
	wanted := envelope
	wanted.ID, wanted.Source, wanted.Subject, wanted.Correlationid = f.EventID(), "/clusters/test/self-healing/watcher", "shop/Pod/cart.v2", f.IncidentID()
	if diff := cmp.Diff(wanted, envelope); diff != "" {
		t.Errorf("envelope (-want +got):\n%s", diff)
	}
}

func TestPublishTellsWhatCanBeCuredFromWhatCannot(t *testing.T) {
	large := failure("large")
	large.Metadata = map[string]string{"note": strings.Repeat("x", 17_000)}
	tests := []struct {
		name        string
		f           heal.Failure
		provisioned bool
		permanent   bool
		want        string
	}{
		{"an invalid message", heal.Failure{}, true, true, `publish to failures: type: "" is not known`},
		{"a message that is too large", large, true, true, "bytes, stream SELFHEAL_FAILURES takes 16384"},
		{"a stream that is not there", failure("a"), false, false, "no response from stream SELFHEAL_FAILURES"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := bustest.Start(t)
			b := s.Connect(t, bus.Options{})
			if tt.provisioned {
				b = s.Bus(t, "watcher")
			}
			err := bus.Failures.Publish(timeout(t), b, tt.f)
			if err == nil || bus.IsPermanent(err) != tt.permanent || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v (permanent: %v)\nwant %s (permanent: %v)", err, bus.IsPermanent(err), tt.want, tt.permanent)
			}
		})
	}
}

func TestPublishHonoursItsContext(t *testing.T) {
	b := bustest.New(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := bus.Failures.Publish(ctx, b, failure("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
}

func TestTheSameIDIsStoredOnce(t *testing.T) {
	s := bustest.Start(t)
	watcher, other := s.Bus(t, "watcher"), s.Bus(t, "watcher")
	for _, b := range []*bus.Bus{watcher, other, watcher} {
		if err := bus.Failures.Publish(t.Context(), b, failure("a")); err != nil {
			t.Fatal(err)
		}
	}
	s.Restart(t)
	eventually(t, "it was published after a restart too", func() bool { return bus.Failures.Publish(t.Context(), watcher, failure("a")) == nil })
	stream, err := s.JetStream(t).Stream(timeout(t), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("stored %d times, want once", n)
	}
}

func TestATraceGoesFromThePublisherToTheHandler(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "watcher")
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4, 5}, TraceFlags: trace.FlagsSampled})
	if err := bus.Failures.Publish(trace.ContextWithSpanContext(t.Context(), span), b, failure("a")); err != nil {
		t.Fatal(err)
	}
	type seen struct{ TraceID, Envelope string }
	got := make(chan seen, 1)
	consume(t, b, bus.Consumer{Name: "analyzer"}, func(ctx context.Context, m bus.Message[heal.Failure]) error {
		got <- seen{trace.SpanContextFromContext(ctx).TraceID().String(), m.TraceParent}
		return nil
	})
	const traceparent = "00-01020300000000000000000000000000-0405000000000000-01"
	if diff := cmp.Diff(seen{span.TraceID().String(), traceparent}, <-got); diff != "" {
		t.Errorf("trace (-want +got):\n%s", diff)
	}
	stream, err := s.JetStream(t).Stream(t.Context(), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetMsg(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{traceparent}, m.Header["traceparent"]); diff != "" {
		t.Errorf("header traceparent (-want +got):\n%s", diff)
	}
}

func TestSpansOfPublisherAndHandlerAreLinkedAndTellErrors(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	defer otel.SetTracerProvider(before)
	s := bustest.Start(t)
	b := s.Bus(t, "analyzer")
	if err := bus.Failures.Publish(t.Context(), b, failure("a")); err != nil {
		t.Fatal(err)
	}
	stop := consume(t, b, bus.Consumer{Name: "analyzer", Backoff: soon}, func(_ context.Context, m bus.Message[heal.Failure]) error {
		if m.Attempt == 1 {
			return errBoom
		}
		return nil
	})
	settled(t, s, "analyzer")
	stop()
	type span struct {
		Name   string
		Kind   trace.SpanKind
		Status codes.Code
		Events int
		Child  bool
	}
	var got []span
	ended := spans.Ended()
	for _, s := range ended {
		got = append(got, span{s.Name(), s.SpanKind(), s.Status().Code, len(s.Events()), s.Parent().SpanID() == ended[0].SpanContext().SpanID()})
	}
	want := []span{
		{"publish failures", trace.SpanKindProducer, codes.Unset, 0, false},
		{"handle failures", trace.SpanKindConsumer, codes.Error, 1, true},
		{"handle failures", trace.SpanKindConsumer, codes.Unset, 0, true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
}
