package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

var errBoom = errors.New("boom")

// soon is a backoff for tests.
func soon(uint64) time.Duration { return time.Millisecond }

// settled waits until the consumer of failures has nothing left to do.
func settled(t testing.TB, s *bustest.Server, name string) {
	t.Helper()
	js := s.JetStream(t)
	eventually(t, "everything is settled", func() bool {
		stream, err := js.Stream(timeout(t), bus.Failures.Stream)
		if err != nil {
			return false
		}
		c, err := stream.Consumer(timeout(t), name)
		return err == nil && c.CachedInfo().AckFloor.Stream >= stream.CachedInfo().State.LastSeq
	})
}

func TestWhatAHandlerReturnsDecidesWhatBecomesOfAMessage(t *testing.T) {
	type dead struct{ Stage, Reason, Error, Subject string }
	tests := []struct {
		name     string
		handle   func(attempt uint64) error
		attempts int32
		want     []dead
	}{
		{"success is done", func(uint64) error { return nil }, 1, nil},
		{"an error is tried again until it succeeds", func(n uint64) error {
			if n < 8 {
				return errBoom
			}
			return nil
		}, 8, nil},
		{"the ninth delivery of what only fails is a dead letter", func(uint64) error { return errBoom }, 8,
			[]dead{{"analyzer", "Poison", "delivered 9 times, last error: boom", "selfheal.v1.test.failures.pod_failure.shop.pod.a"}}},
		{"so it is of what panics", func(uint64) error { panic("ouch") }, 8,
			[]dead{{"analyzer", "Poison", "delivered 9 times, last error: panic: ouch", "selfheal.v1.test.failures.pod_failure.shop.pod.a"}}},
		{"a permanent error is a dead letter at once", func(uint64) error { return fmt.Errorf("look: %w", bus.Permanent(errBoom)) }, 1,
			[]dead{{"analyzer", "Refused", "look: boom", "selfheal.v1.test.failures.pod_failure.shop.pod.a"}}},
		{"waiting on purpose is not failing", func(n uint64) error {
			if n <= 30 {
				return fmt.Errorf("look: %w", bus.Later(errBoom, time.Millisecond))
			}
			return nil
		}, 31, nil},
		{"a refusal of the bus is not failing", func(n uint64) error {
			if n <= 12 {
				return fmt.Errorf("look: %w", bus.ErrPermission)
			}
			return nil
		}, 13, nil},
		{"failures count among waits", func(n uint64) error {
			if n%2 == 0 {
				return bus.Later(errBoom, time.Millisecond)
			}
			return errBoom
		}, 15, []dead{{"analyzer", "Poison", "delivered 16 times, last error: boom", "selfheal.v1.test.failures.pod_failure.shop.pod.a"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := bustest.Start(t)
			b := s.Bus(t, "analyzer")
			if err := bus.Failures.Publish(t.Context(), b, failure("a")); err != nil {
				t.Fatal(err)
			}
			var attempts atomic.Int32
			stop := consume(t, b, bus.Consumer{Name: "analyzer", Backoff: soon}, func(_ context.Context, m bus.Message[heal.Failure]) error {
				attempts.Add(1)
				return tt.handle(m.Attempt)
			})
			settled(t, s, "analyzer")
			stop()
			if got := attempts.Load(); got != tt.attempts {
				t.Errorf("handled %d times, want %d", got, tt.attempts)
			}
			var got []dead
			for _, l := range s.DeadLetters(t) {
				got = append(got, dead{l.Stage, l.Reason, l.Error, l.Subject})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("dead letters (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAMessageIsHandedOverWithItsEnvelope(t *testing.T) {
	b := bustest.New(t, "watcher")
	begin := time.Now()
	if err := bus.Failures.Publish(t.Context(), b, failure("a")); err != nil {
		t.Fatal(err)
	}
	got := make(chan bus.Message[heal.Failure], 1)
	consume(t, b, bus.Consumer{Name: "analyzer"}, func(_ context.Context, m bus.Message[heal.Failure]) error {
		got <- m
		return nil
	})
	m := <-got
	if m.Stored.Before(begin.Add(-time.Second)) || m.Stored.After(time.Now().Add(time.Second)) {
		t.Errorf("stored at %v, published at %v", m.Stored, begin)
	}
	want := bus.Message[heal.Failure]{Event: heal.NewEvent(failure("a"), bustest.Cluster, "watcher", m.Time), Attempt: 1, Stored: m.Stored}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("message (-want +got):\n%s", diff)
	}
}

// body is a failure in its envelope, after change.
func body(t testing.TB, f heal.Failure, change func(map[string]any)) []byte {
	t.Helper()
	data, err := json.Marshal(heal.NewEvent(f, bustest.Cluster, "watcher", f.FirstSeen))
	if err != nil {
		t.Fatal(err)
	}
	var event map[string]any
	if err := json.Unmarshal(data, &event); err != nil {
		t.Fatal(err)
	}
	change(event)
	if data, err = json.Marshal(event); err != nil {
		t.Fatal(err)
	}
	return data
}

func TestMessagesThatDoNotBelongAreDeadLettersAndTheRestIsHandled(t *testing.T) {
	const subject = "selfheal.v1.test.failures.pod_failure.shop.pod."
	as := func(change func(map[string]any)) func(t *testing.T, f heal.Failure) []byte {
		return func(t *testing.T, f heal.Failure) []byte { return body(t, f, change) }
	}
	raw := func(s string) func(*testing.T, heal.Failure) []byte {
		return func(*testing.T, heal.Failure) []byte { return []byte(s) }
	}
	data := func(event map[string]any) map[string]any { return event["data"].(map[string]any) }
	good := as(func(map[string]any) {})
	tests := []struct {
		name   string // also the pod's
		body   func(*testing.T, heal.Failure) []byte
		suffix string      // of the subject, instead of name
		header nats.Header // besides none
		want   string
	}{
		{name: "empty", body: raw(""), want: "bad-json: the message is empty"},
		{name: "status", body: raw(""), header: nats.Header{"Status": {"100"}, "Description": {"Idle Heartbeat"}}, want: "bad-json: the message is empty"},
		{name: "not-json", body: raw("hello"), want: "bad-json: offset"},
		{name: "truncated", body: raw(`{"specversion":"1.0",`), want: "bad-json: offset"},
		{name: "trailing", body: raw(`{} {}`), want: "trailing bytes"},
		{name: "utf8", body: raw("{\"a\":\"\xff\"}"), want: "invalid UTF-8"},
		{name: "version", body: as(func(e map[string]any) { e["specversion"] = "2.0" }), want: `specversion: "2.0" not supported`},
		{name: "type", body: as(func(e map[string]any) { e["type"] = "dev.selfheal.failure.detected.v2" }), want: `type: "dev.selfheal.failure.detected.v2" not supported`},
		{name: "unknown-failure", body: as(func(e map[string]any) { data(e)["type"] = "alien_failure" }), want: `data: type: "alien_failure" is not known`},
		{name: "id", body: as(func(e map[string]any) { e["id"] = "no id" }), want: `id: "no id" is not an id`},
		{name: "uid", body: as(func(e map[string]any) { data(e)["target"].(map[string]any)["uid"] = "../.." }), want: `data: target.uid: "../.." is not a UID`},
		{name: "subject", body: good, suffix: "other", want: `subject-mismatch: stored under "` + subject + `other", want "` + subject + `subject"`},
		{name: "foreign", body: as(func(e map[string]any) { e["source"] = "/clusters/prod/self-healing/watcher" }), want: `source: "/clusters/prod/self-healing/watcher" is not of cluster "test"`},
		{name: "planted-id", body: good, header: nats.Header{"Nats-Msg-Id": {"f-planted"}}, want: `id-mismatch: Nats-Msg-Id is "f-planted"`},
	}
	s := bustest.Start(t)
	registry := prometheus.NewRegistry()
	b := s.Connect(t, bus.Options{Service: "analyzer", Metrics: registry})
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		suffix := tt.name
		if tt.suffix != "" {
			suffix = tt.suffix
		}
		s.PublishRaw(t, subject+suffix, tt.header, tt.body(t, failure(tt.name)))
		if err := bus.Failures.Publish(t.Context(), b, failure("good-"+tt.name)); err != nil {
			t.Fatal(err)
		}
	}
	var handled atomic.Int32
	consume(t, b, bus.Consumer{Name: "analyzer", Workers: 4}, func(_ context.Context, m bus.Message[heal.Failure]) error {
		if !strings.HasPrefix(m.Data.ResourceName, "good-") {
			t.Errorf("handled %q", m.Data.ResourceName)
		}
		handled.Add(1)
		return nil
	})
	settled(t, s, "analyzer")
	if got := int(handled.Load()); got != len(tests) {
		t.Errorf("%d good messages were handled, want %d", got, len(tests))
	}
	letters := map[uint64]heal.DeadLetter{}
	for _, l := range s.DeadLetters(t) {
		letters[l.Sequence] = l
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := letters[uint64(2*i+1)]
			if l.Reason != heal.DeadBadMessage || !strings.Contains(l.Error, tt.want) {
				t.Errorf("got  %s: %q\nwant %s: %q", l.Reason, l.Error, heal.DeadBadMessage, tt.want)
			}
			want := heal.DeadLetter{Stage: "analyzer", Stream: "SELFHEAL_FAILURES", Delivered: 1, Headers: tt.header, Body: tt.body(t, failure(tt.name))}
			if diff := cmp.Diff(want, l, cmpopts.IgnoreFields(heal.DeadLetter{}, "Reason", "Error", "Subject", "Sequence"), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("dead letter (-want +got):\n%s", diff)
			}
		})
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(fmt.Sprintf(`
# HELP self_healing_dead_letters_total Messages given up and moved to the dead-letter stream.
# TYPE self_healing_dead_letters_total counter
self_healing_dead_letters_total{reason="BadMessage",stage="analyzer"} %[1]d
self_healing_dead_letters_total{reason="Poison",stage="analyzer"} 0
self_healing_dead_letters_total{reason="Refused",stage="analyzer"} 0
self_healing_dead_letters_total{reason="Untrusted",stage="analyzer"} 0
# HELP self_healing_messages_processed_total Deliveries of messages, by what became of them: ok, retry, later (waits on purpose), dead.
# TYPE self_healing_messages_processed_total counter
self_healing_messages_processed_total{outcome="dead",stream="SELFHEAL_FAILURES"} %[1]d
self_healing_messages_processed_total{outcome="later",stream="SELFHEAL_FAILURES"} 0
self_healing_messages_processed_total{outcome="ok",stream="SELFHEAL_FAILURES"} %[1]d
self_healing_messages_processed_total{outcome="retry",stream="SELFHEAL_FAILURES"} 0
`, len(tests))), "self_healing_dead_letters_total", "self_healing_messages_processed_total"); err != nil {
		t.Error(err)
	}
}

func TestWhatIsTooLargeForItsStreamIsADeadLetterThatFits(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "analyzer")
	js := s.JetStream(t)
	stream, err := js.Stream(t.Context(), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config // somebody lifted the limit
	config.MaxMsgSize = -1
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	header := nats.Header{"A": {"kept"}, "B": {strings.Repeat("<", 40<<10)}}
	s.PublishRaw(t, "selfheal.v1.test.failures.x", header, make([]byte, 900<<10))
	consume(t, b, bus.Consumer{Name: "analyzer", Backoff: soon}, func(context.Context, bus.Message[heal.Failure]) error { return nil })
	settled(t, s, "analyzer")
	letters := s.DeadLetters(t)
	if len(letters) != 1 {
		t.Fatalf("%d dead letters, want 1", len(letters))
	}
	l := letters[0]
	if l.Error != "too-large: 921600 > 16384 bytes" || !l.Truncated || len(l.Body) != 512<<10 {
		t.Errorf("error %q, truncated %v, body of %d bytes", l.Error, l.Truncated, len(l.Body))
	}
	if diff := cmp.Diff(map[string][]string{"A": {"kept"}}, l.Headers); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

func TestADeadLetterThatCannotBeStoredKeepsTheMessage(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "analyzer")
	js := s.JetStream(t)
	if err := js.DeleteStream(t.Context(), bus.DeadLetters.Stream); err != nil {
		t.Fatal(err)
	}
	if err := bus.Failures.Publish(t.Context(), b, failure("a")); err != nil {
		t.Fatal(err)
	}
	var attempts atomic.Int32
	consume(t, b, bus.Consumer{Name: "analyzer", Backoff: soon}, func(context.Context, bus.Message[heal.Failure]) error {
		attempts.Add(1)
		return bus.Permanent(errBoom)
	})
	eventually(t, "it was tried again", func() bool { return attempts.Load() > 1 })
	if err := b.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	settled(t, s, "analyzer")
	if letters := s.DeadLetters(t); len(letters) != 1 || letters[0].Error != "boom" {
		t.Errorf("got %v, want the one dead letter", letters)
	}
}

func TestALongAttemptKeepsItsMessage(t *testing.T) {
	s := bustest.Start(t)
	b := s.Connect(t, bus.Options{Service: "analyzer"})
	const ackWait = time.Second
	b.Hurry(ackWait, time.Minute)
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if err := bus.Failures.Publish(t.Context(), b, failure("a")); err != nil {
		t.Fatal(err)
	}
	var attempts atomic.Int32
	consume(t, b, bus.Consumer{Name: "analyzer", Workers: 2}, func(ctx context.Context, _ bus.Message[heal.Failure]) error {
		attempts.Add(1)
		<-time.After(5 * ackWait / 2)
		return nil
	})
	settled(t, s, "analyzer")
	if got := attempts.Load(); got != 1 {
		t.Errorf("handled %d times, want once", got)
	}
}

func TestAnAttemptEndsAtItsTimeout(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "analyzer")
	if err := bus.Failures.Publish(t.Context(), b, failure("a")); err != nil {
		t.Fatal(err)
	}
	consume(t, b, bus.Consumer{Name: "analyzer", Timeout: 20 * time.Millisecond, Backoff: soon}, func(ctx context.Context, m bus.Message[heal.Failure]) error {
		if m.Attempt > 1 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	})
	settled(t, s, "analyzer")
}

func TestStoppingWaitsForTheAttemptUnderWay(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "analyzer")
	if err := bus.Failures.Publish(t.Context(), b, failure("a")); err != nil {
		t.Fatal(err)
	}
	begun, finish := make(chan struct{}), make(chan struct{})
	var finished atomic.Bool
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- bus.Failures.Consume(ctx, b, bus.Consumer{Name: "analyzer"}, func(ctx context.Context, _ bus.Message[heal.Failure]) error {
			close(begun)
			<-finish
			finished.Store(ctx.Err() == nil)
			return nil
		})
	}()
	<-begun
	cancel()
	select {
	case err := <-done:
		t.Fatalf("Consume returned %v before its handler", err)
	case <-time.After(100 * time.Millisecond):
	}
	close(finish)
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !finished.Load() {
		t.Error("the stop reached the handler's context")
	}
	settled(t, s, "analyzer")
}

func TestOnlyAsManyMessagesAreTakenAsThereAreWorkers(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "analyzer")
	for i := range 20 {
		if err := bus.Failures.Publish(t.Context(), b, failure(fmt.Sprintf("pod-%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	begun, finish := make(chan struct{}, 20), make(chan struct{})
	consume(t, b, bus.Consumer{Name: "analyzer", Workers: 3}, func(context.Context, bus.Message[heal.Failure]) error {
		begun <- struct{}{}
		<-finish
		return nil
	})
	for range 3 {
		<-begun
	}
	c, err := s.JetStream(t).Consumer(t.Context(), bus.Failures.Stream, "analyzer")
	if err != nil {
		t.Fatal(err)
	}
	if i := c.CachedInfo(); i.NumAckPending != 3 || i.NumPending != 17 {
		t.Errorf("%d taken and %d left, want 3 and 17", i.NumAckPending, i.NumPending)
	}
	close(finish)
	settled(t, s, "analyzer")
}

func TestAMessageThatArrivesWhileStoppingIsNotLost(t *testing.T) {
	s := bustest.Start(t)
	b := s.Connect(t, bus.Options{Service: "analyzer"})
	b.Hurry(time.Second, time.Minute)
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	var handled atomic.Int32
	count := func(context.Context, bus.Message[heal.Failure]) error {
		handled.Add(1)
		return nil
	}
	const n = 100
	for i := range n {
		stop := consume(t, b, bus.Consumer{Name: "analyzer"}, count)
		if err := bus.Failures.Publish(t.Context(), b, failure(fmt.Sprintf("pod-%d", i))); err != nil {
			t.Fatal(err)
		}
		stop()
	}
	consume(t, b, bus.Consumer{Name: "analyzer"}, count)
	settled(t, s, "analyzer")
	if got := handled.Load(); got != n {
		t.Errorf("handled %d, want %d", got, n)
	}
}

func TestARestartOfTheServerLosesNothing(t *testing.T) {
	s := bustest.Start(t)
	analyzer, watcher := s.Connect(t, bus.Options{Service: "analyzer"}), s.Bus(t, "watcher")
	analyzer.Hurry(time.Second, time.Minute)
	ctx := timeout(t)
	if err := analyzer.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	const n = 60
	seen := make(chan string, 10*n)
	consume(t, analyzer, bus.Consumer{Name: "analyzer", Workers: 4, Backoff: soon}, func(ctx context.Context, m bus.Message[heal.Failure]) error {
		if m.Data.Occurrence == 1 { // what follows from it must be stored before it is done
			next := m.Data
			next.Occurrence = 2
			if err := bus.Failures.Publish(ctx, analyzer, next); err != nil {
				return err
			}
		}
		seen <- fmt.Sprintf("%s/%d", m.Data.ResourceName, m.Data.Occurrence)
		return nil
	})
	published := make(chan struct{})
	go func() {
		defer close(published)
		for i := range n {
			for bus.Failures.Publish(ctx, watcher, failure(fmt.Sprintf("pod-%d", i))) != nil && ctx.Err() == nil {
				<-time.After(5 * time.Millisecond)
			}
		}
	}()
	missing := map[string]bool{}
	for i := range n {
		missing[fmt.Sprintf("pod-%d/1", i)], missing[fmt.Sprintf("pod-%d/2", i)] = true, true
	}
	for restarts := 0; len(missing) > 0; {
		select {
		case name := <-seen:
			delete(missing, name)
		case <-ctx.Done():
			t.Fatalf("never handled: %v", missing)
		}
		if restarts < 3 && len(missing) < 2*n-20*(restarts+1) {
			restarts++
			s.Restart(t)
		}
	}
	<-published
	settled(t, s, "analyzer")
	if letters := s.DeadLetters(t); len(letters) != 0 {
		t.Errorf("%d dead letters, want none; the first: %s", len(letters), letters[0].Error)
	}
}

func TestAnAbsentServerIsNotAFailureOfTheMessage(t *testing.T) {
	s := bustest.Start(t)
	b := s.Connect(t, bus.Options{Service: "analyzer"})
	b.Hurry(500*time.Millisecond, time.Minute)
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if err := bus.Failures.Publish(t.Context(), b, failure("a")); err != nil {
		t.Fatal(err)
	}
	begun, gone := make(chan struct{}, 1), make(chan struct{})
	var errs atomic.Value
	consume(t, b, bus.Consumer{Name: "analyzer", Backoff: soon}, func(ctx context.Context, m bus.Message[heal.Failure]) error {
		if m.Attempt > 1 {
			return nil
		}
		begun <- struct{}{}
		<-gone
		err := bus.Results.Publish(ctx, b, heal.Result{})
		_, _, get := bus.NewStore[int](b, bus.IncidentsBucket).Get(ctx, "a")
		errs.Store(fmt.Sprint(err, "; ", get))
		return get
	})
	<-begun
	s.Stop()
	eventually(t, "the absence shows", func() bool { return b.Ready() != nil })
	close(gone)
	eventually(t, "the attempt is over", func() bool { return errs.Load() != nil })
	if got := errs.Load().(string); !strings.Contains(got, "not connected to NATS") {
		t.Errorf("got %q, want it to say that the bus is away", got)
	}
	s.Restart(t)
	settled(t, s, "analyzer")
}

func TestAnExistingConsumerIsMadeWhatItShouldBe(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "analyzer")
	const filter = "selfheal.v1.test.failures."
	js := s.JetStream(t)
	_, err := js.CreateConsumer(t.Context(), bus.Failures.Stream, jetstream.ConsumerConfig{
		Durable: "analyzer", FilterSubject: filter + "pod_failure.>", AckPolicy: jetstream.AckExplicitPolicy,
		MaxDeliver: 5, BackOff: []time.Duration{time.Second, time.Minute}, MaxAckPending: 7, Description: "kept",
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := bus.Failures.Publish(t.Context(), b, failure("a")); err != nil {
		t.Fatal(err)
	}
	handled := make(chan struct{}, 1)
	consume(t, b, bus.Consumer{Name: "analyzer"}, func(context.Context, bus.Message[heal.Failure]) error {
		handled <- struct{}{}
		return nil
	})
	<-handled
	c, err := js.Consumer(t.Context(), bus.Failures.Stream, "analyzer")
	if err != nil {
		t.Fatal(err)
	}
	type shape struct {
		Filter, Description       string
		MaxDeliver, MaxAckPending int
		AckWait                   time.Duration
		BackOff                   []time.Duration
	}
	got := c.CachedInfo().Config
	want := shape{Filter: filter + ">", Description: "kept", MaxDeliver: -1, MaxAckPending: 1000, AckWait: 30 * time.Second}
	if diff := cmp.Diff(want, shape{got.FilterSubject, got.Description, got.MaxDeliver, got.MaxAckPending, got.AckWait, got.BackOff}); diff != "" {
		t.Errorf("consumer (-want +got):\n%s", diff)
	}
}

func TestAConsumerOfAnotherClusterIsLeftAlone(t *testing.T) {
	s := bustest.Start(t)
	_ = s.Bus(t, "analyzer")
	js := s.JetStream(t)
	_, err := js.CreateConsumer(t.Context(), bus.Failures.Stream, jetstream.ConsumerConfig{
		Durable: "analyzer", FilterSubject: "selfheal.v1.prod.failures.>", AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	b := s.Bus(t, "analyzer")
	consume(t, b, bus.Consumer{Name: "analyzer"}, func(context.Context, bus.Message[heal.Failure]) error { return nil })
	eventually(t, "Ready names it", func() bool {
		err := b.Ready()
		return err != nil && strings.HasPrefix(err.Error(), `consumer analyzer on SELFHEAL_FAILURES: filter_subject is "selfheal.v1.prod.failures.>"`)
	})
}

func TestAConsumerThatWasDeletedIsMadeAgain(t *testing.T) {
	s := bustest.Start(t)
	b := s.Connect(t, bus.Options{Service: "analyzer"})
	b.Hurry(time.Minute, time.Minute)
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	handled := make(chan string, 10)
	consume(t, b, bus.Consumer{Name: "analyzer", Workers: 2}, func(_ context.Context, m bus.Message[heal.Failure]) error {
		handled <- m.Data.ResourceName
		return nil
	})
	if err := bus.Failures.Publish(t.Context(), b, failure("a")); err != nil {
		t.Fatal(err)
	}
	<-handled
	if err := s.JetStream(t).DeleteConsumer(t.Context(), bus.Failures.Stream, "analyzer"); err != nil {
		t.Fatal(err)
	}
	if err := bus.Failures.Publish(t.Context(), b, failure("b")); err != nil {
		t.Fatal(err)
	}
	for name := <-handled; name != "b"; name = <-handled {
	}
}

func TestAFilterNarrowsTheTopic(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "analyzer")
	for _, name := range []string{"a", "b"} {
		if err := bus.Failures.Publish(t.Context(), b, failure(name)); err != nil {
			t.Fatal(err)
		}
	}
	handled := make(chan string, 2)
	stop := consume(t, b, bus.Consumer{Name: "analyzer", Filter: "pod_failure.shop.pod.b"}, func(_ context.Context, m bus.Message[heal.Failure]) error {
		handled <- m.Data.ResourceName
		return nil
	})
	settled(t, s, "analyzer")
	stop()
	if name := <-handled; name != "b" || len(handled) > 0 {
		t.Errorf("handled %q and %d more, want only b", name, len(handled))
	}
}

func TestAConsumerThatCanNeverWorkIsRefused(t *testing.T) {
	b := bustest.New(t)
	for _, c := range []bus.Consumer{{}, {Name: "A"}, {Name: "a-"}, {Name: "a.b"}, {Name: "a b"}, {Name: "a", Filter: "a..b"}, {Name: "a", Filter: "a b"}} {
		err := bus.Failures.Consume(t.Context(), b, c, func(context.Context, bus.Message[heal.Failure]) error { return nil })
		if !bus.IsPermanent(err) {
			t.Errorf("%+v: got %v, want a permanent error", c, err)
		}
	}
}

func TestTheConsumersFiguresAreKept(t *testing.T) {
	s := bustest.Start(t)
	registry := prometheus.NewRegistry()
	b := s.Connect(t, bus.Options{Service: "analyzer", Metrics: registry})
	b.Hurry(time.Minute, time.Minute)
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	s.Connect(t, bus.Options{Service: "notifier", Metrics: registry}) // the pipeline in one process
	for i := range 5 {
		if err := bus.Failures.Publish(t.Context(), b, failure(fmt.Sprintf("pod-%d", i))); err != nil {
			t.Fatal(err)
		}
	}
	finish := make(chan struct{})
	backoff := func(uint64) time.Duration { return time.Second }
	stop := consume(t, b, bus.Consumer{Name: "analyzer", Workers: 2, Backoff: backoff}, func(_ context.Context, m bus.Message[heal.Failure]) error {
		if m.Attempt == 1 && m.Data.ResourceName == "pod-0" {
			return errBoom
		}
		<-finish
		return nil
	})
	const want = `
# HELP self_healing_consumer_ack_pending Messages that the consumer was given and has not settled.
# TYPE self_healing_consumer_ack_pending gauge
self_healing_consumer_ack_pending{consumer="analyzer",stream="SELFHEAL_FAILURES"} 3
# HELP self_healing_consumer_pending Messages stored that the consumer was not given yet.
# TYPE self_healing_consumer_pending gauge
self_healing_consumer_pending{consumer="analyzer",stream="SELFHEAL_FAILURES"} 2
`
	eventually(t, "two are handled, one waits to be tried again, and two are left", func() bool {
		return testutil.GatherAndCompare(registry, strings.NewReader(want), "self_healing_consumer_pending", "self_healing_consumer_ack_pending") == nil
	})
	close(finish)
	settled(t, s, "analyzer")
	stop()
	if n, err := testutil.GatherAndCount(registry, "self_healing_consumer_pending"); err != nil || n != 0 {
		t.Errorf("%d figures of a consumer that ended, want none (%v)", n, err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, f := range families {
		if h := f.GetMetric()[0].GetHistogram(); h != nil {
			got[f.GetName()] = h.GetSampleCount()
			if len(h.GetBucket()) == 0 || len(h.GetPositiveSpan()) == 0 {
				t.Errorf("%s: %d classic buckets, %d native spans, want both", f.GetName(), len(h.GetBucket()), len(h.GetPositiveSpan()))
			}
		}
	}
	// Six deliveries; five of them were the first of their message.
	if diff := cmp.Diff(map[string]uint64{"self_healing_message_processing_seconds": 6, "self_healing_stage_lag_seconds": 5}, got); diff != "" {
		t.Errorf("observations (-want +got):\n%s", diff)
	}
}
