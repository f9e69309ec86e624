package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

// tail runs Tail until the test ends, and returns what it sees.
func tail(t testing.TB, b *bus.Bus, since time.Time) <-chan bus.Raw {
	t.Helper()
	seen := make(chan bus.Raw, 1000)
	ctx, cancel := context.WithCancel(timeout(t))
	done := make(chan error, 1)
	go func() {
		done <- b.Tail(ctx, since, func(r bus.Raw) error {
			seen <- r
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("tail: %v", err)
		}
	})
	return seen
}

// next waits for n messages and returns their subjects by stream, as they came.
func next(t testing.TB, seen <-chan bus.Raw, n int) map[string][]string {
	t.Helper()
	ctx := timeout(t)
	got := map[string][]string{}
	for range n {
		select {
		case r := <-seen:
			got[r.Stream] = append(got[r.Stream], r.Subject)
		case <-ctx.Done():
			t.Fatalf("got only %v", got)
		}
	}
	return got
}

func TestTailSeesTheClustersMessagesOfAllStreamsInOrder(t *testing.T) {
	s := bustest.Start(t)
	b := s.Connect(t, bus.Options{Service: "selfheal"})
	b.Hurry(time.Minute, time.Minute)
	seen := tail(t, b, time.Time{}) // before there are streams
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for i := range 3 {
		if err := bus.Failures.Publish(t.Context(), b, failure(fmt.Sprintf("pod-%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if err := bus.Controls.Publish(t.Context(), b, heal.Control{Verb: heal.Pause, By: "me", At: at}); err != nil {
		t.Fatal(err)
	}
	if err := bus.DeadLetters.Publish(t.Context(), b, heal.DeadLetter{Stage: "analyzer", Reason: heal.DeadPoison}); err != nil {
		t.Fatal(err)
	}
	s.PublishRaw(t, "selfheal.v1.prod.failures.x", nil, []byte("of another cluster"))
	s.PublishRaw(t, "selfheal.v1.test.results.x", map[string][]string{"A": {"b"}}, []byte("broken"))

	const pod = "selfheal.v1.test.failures.pod_failure.shop.pod.pod-"
	want := map[string][]string{
		"SELFHEAL_FAILURES":  {pod + "0", pod + "1", pod + "2"},
		"SELFHEAL_DECISIONS": {"selfheal.v1.test.control.pause"},
		"SELFHEAL_DLQ":       {"selfheal.v1.test.dlq.analyzer"},
		"SELFHEAL_RESULTS":   {"selfheal.v1.test.results.x"},
	}
	if diff := cmp.Diff(want, next(t, seen, 6)); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
	if err := b.Ready(); err != nil {
		t.Errorf("not ready: %v", err)
	}
}

func TestTailGoesOnBehindTheLastMessageAfterARestart(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "selfheal")
	if err := bus.Failures.Publish(t.Context(), b, failure("old")); err != nil {
		t.Fatal(err)
	}
	seen := tail(t, b, time.Now().Add(-time.Hour))
	next(t, seen, 1)
	s.Restart(t)
	eventually(t, "it is published", func() bool { return bus.Failures.Publish(t.Context(), b, failure("new")) == nil })
	want := map[string][]string{"SELFHEAL_FAILURES": {"selfheal.v1.test.failures.pod_failure.shop.pod.new"}}
	if diff := cmp.Diff(want, next(t, seen, 1)); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
}

func TestTailStartsAgainWithAStreamThatWasMadeAnew(t *testing.T) {
	s := bustest.Start(t)
	b := s.Connect(t, bus.Options{Service: "watcher"})
	b.Hurry(time.Minute, 50*time.Millisecond)
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := bus.Failures.Publish(t.Context(), b, failure(fmt.Sprintf("pod-%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	seen := tail(t, b, time.Time{})
	next(t, seen, 5)
	if err := s.JetStream(t).DeleteStream(t.Context(), bus.Failures.Stream); err != nil {
		t.Fatal(err)
	}
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if err := bus.Failures.Publish(t.Context(), b, failure("new")); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"SELFHEAL_FAILURES": {"selfheal.v1.test.failures.pod_failure.shop.pod.new"}}
	if diff := cmp.Diff(want, next(t, seen, 1)); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
}

func TestTailBeginsSinceAndEndsWithItsCallersError(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "selfheal")
	for _, name := range []string{"old", "new"} {
		if err := bus.Failures.Publish(t.Context(), b, failure(name)); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := s.JetStream(t).Stream(t.Context(), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	second, err := stream.GetMsg(t.Context(), 2)
	if err != nil {
		t.Fatal(err)
	}
	var got []uint64
	err = b.Tail(timeout(t), second.Time, func(r bus.Raw) error {
		got = append(got, r.Seq)
		return errBoom
	})
	if !errors.Is(err, errBoom) {
		t.Errorf("got %v, want %v", err, errBoom)
	}
	if diff := cmp.Diff([]uint64{2}, got); diff != "" {
		t.Errorf("seen (-want +got):\n%s", diff)
	}
}
