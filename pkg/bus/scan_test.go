package bus_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
)

func TestAScanReadsAllThatIsStoredInOrderAndMakesNoConsumer(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "analyzer")
	none := func(r bus.Raw) error { return fmt.Errorf("there is %s", r.Subject) }
	for _, since := range []time.Time{{}, time.Now().Add(-time.Hour)} {
		if err := b.Scan(t.Context(), bus.Failures.Stream, since, none); err != nil {
			t.Fatalf("of nothing: %v", err)
		}
	}

	js := s.JetStream(t)
	const messages = 2500 // more than go at once
	var want []string
	publish := func(i int) {
		t.Helper()
		subject := fmt.Sprintf("selfheal.v1.test.failures.pod_failure.shop.pod.p%d", i)
		if _, err := js.PublishAsync(subject, fmt.Appendf(nil, "body %d", i)); err != nil {
			t.Fatal(err)
		}
		want = append(want, fmt.Sprintf("%s: body %d", subject, i))
		if i%100 == 0 { // another cluster's
			if _, err := js.PublishAsync("selfheal.v1.other.failures.pod_failure.shop.pod.x", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range messages {
		publish(i)
	}
	<-js.PublishAsyncComplete()
	stream, err := js.Stream(t.Context(), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.DeleteMsg(t.Context(), 7); err != nil { // a gap is no loss
		t.Fatal(err)
	}
	want = append(want[:5], want[6:]...)

	var got []string
	var last bus.Raw
	read := func(r bus.Raw) error {
		if r.Seq <= last.Seq || r.Time.Before(last.Time) || r.Stream != bus.Failures.Stream {
			t.Errorf("%d of %s, stored %s, comes after %d of %s", r.Seq, r.Stream, r.Time, last.Seq, last.Time)
		}
		for key := range r.Header {
			t.Errorf("message %d has a header %s that nobody gave it", r.Seq, key)
		}
		last = r
		got = append(got, fmt.Sprintf("%s: %s", r.Subject, r.Data))
		return nil
	}
	if err := b.Scan(t.Context(), bus.Failures.Stream, time.Time{}, read); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}

	middle := last
	publish(messages)
	<-js.PublishAsyncComplete()
	got = nil
	if err := b.Scan(t.Context(), bus.Failures.Stream, middle.Time.Add(1), read); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, want[len(want)-1:]); diff != "" {
		t.Errorf("since then (-got +want)\n%s", diff)
	}
	if err := b.Scan(t.Context(), bus.Failures.Stream, time.Now().Add(time.Hour), none); err != nil {
		t.Errorf("of what is yet to come: %v", err)
	}
	stop := errors.New("stop")
	if err := b.Scan(t.Context(), bus.Failures.Stream, time.Time{}, func(bus.Raw) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a reader that stops gets %v", err)
	}
	if info, err := stream.Info(t.Context()); err != nil || info.State.Consumers != 0 {
		t.Errorf("%d consumers were made, %v", info.State.Consumers, err)
	}
}

// Whoever may store a message may give it any headers.
func TestAScanIsNotLedAstrayByWhatAMessageSaysOfItself(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "analyzer")
	subject := "selfheal.v1.test.failures.pod_failure.shop.pod."
	for i, header := range []map[string][]string{
		nil,
		{"Nats-Sequence": {"900000"}, "Nats-Subject": {"selfheal.v1.test.failures.forged"}, "Nats-Time-Stamp": {"2001-01-01T00:00:00Z"}},
		{"Nats-Last-Sequence": {"900000"}, "Nats-Num-Pending": {"0"}, "Nats-Stream": {"OTHER"}},
		{"Status": {"204"}}, {"Status": {"404"}}, {"Status": {"503"}}, {"Status": {"409"}, "Description": {"Leadership Change"}},
		nil,
	} {
		s.PublishRaw(t, fmt.Sprint(subject, i), header, nil)
	}
	var got []string
	err := b.Scan(t.Context(), bus.Failures.Stream, time.Time{}, func(r bus.Raw) error {
		got = append(got, fmt.Sprintf("%d %s %d", r.Seq, r.Subject, r.Time.Year()))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 8 {
		want = append(want, fmt.Sprintf("%d %s%d %d", i+1, subject, i, time.Now().UTC().Year()))
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestAScanOfWhatAnswersNobodySaysSo(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "analyzer")
	js := s.JetStream(t)
	stream, err := js.Stream(t.Context(), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.AllowDirect = false
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	s.PublishRaw(t, "selfheal.v1.test.failures.pod_failure.shop.pod.x", nil, []byte("x"))
	err = b.Scan(t.Context(), bus.Failures.Stream, time.Time{}, func(bus.Raw) error { return nil })
	if !errors.Is(err, jetstream.ErrNoStreamResponse) {
		t.Errorf("a stream that is not read so: %v", err)
	}
	if err := js.DeleteStream(t.Context(), bus.Failures.Stream); err != nil {
		t.Fatal(err)
	}
	if err := b.Scan(t.Context(), bus.Failures.Stream, time.Time{}, func(bus.Raw) error { return nil }); !errors.Is(err, jetstream.ErrStreamNotFound) {
		t.Errorf("a stream that is not there: %v", err)
	}
}
