package rights_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/test/chart/rights"
	"github.com/selfheal/selfheal/test/chart/rights/natstest"
)

const cluster = "prod.eu" // its token is prod_eu

// A stage is a NATS server with the chart's accounts.
type stage struct{ natstest.Stage }

func start(t *testing.T) stage {
	t.Helper()
	return stage{natstest.Start(t, cluster)}
}

func (s stage) bus(t *testing.T, client string) *bus.Bus {
	t.Helper()
	return s.Bus(t, client, bus.Options{})
}

func (s stage) provisioned(t *testing.T, client string) *bus.Bus {
	t.Helper()
	return s.Provisioned(t, client, bus.Options{})
}

func (s stage) plain(t *testing.T, client string) (*nats.Conn, jetstream.JetStream, <-chan error) {
	t.Helper()
	return s.Plain(t, client)
}

func limited(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestTheFourServicesPassAMessageOnWithNothingButTheirOwnKeys(t *testing.T) {
	s := start(t)
	ctx := limited(t, 40*time.Second)
	ended := make(chan error, 16)
	run := func(what string, f func() error) {
		go func() {
			if err := f(); err != nil && ctx.Err() == nil {
				ended <- fmt.Errorf("%s: %w", what, err)
			}
		}()
	}
	await := func(what string, c <-chan struct{}) {
		t.Helper()
		select {
		case <-c:
		case err := <-ended:
			t.Fatalf("%s: %v", what, err)
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, ctx.Err())
		}
	}
	watcher, analyzer := s.provisioned(t, "watcher"), s.provisioned(t, "analyzer")
	actuator, notifier := s.provisioned(t, "actuator"), s.provisioned(t, "notifier")
	operator := s.bus(t, "operator")

	told, learned, answered, paused := make(chan struct{}, 9), make(chan struct{}, 9), make(chan struct{}, 9), make(chan struct{}, 9)
	note := func(c chan struct{}) { c <- struct{}{} }
	run("analyzer", func() error {
		return bus.Failures.Consume(ctx, analyzer, bus.Consumer{Name: "analyzer", Workers: 2}, func(ctx context.Context, m bus.Message[heal.Failure]) error {
			return bus.Decisions.Publish(ctx, analyzer, decide(m.Data))
		})
	})
	run("analyzer-feedback", func() error {
		return bus.Results.Consume(ctx, analyzer, bus.Consumer{Name: "analyzer-feedback"}, func(context.Context, bus.Message[heal.Result]) error {
			note(learned)
			return nil
		})
	})
	run("actuator", func() error {
		return bus.Decisions.Consume(ctx, actuator, bus.Consumer{Name: "actuator"}, func(ctx context.Context, m bus.Message[heal.Decision]) error {
			return bus.Results.Publish(ctx, actuator, heal.Result{Decision: m.Data, Outcome: heal.Skipped, Reason: "DryRun", Message: "nothing was done", Attempt: 1, StartedAt: time.Now(), Steps: []heal.Step{}})
		})
	})
	run("actuator-approvals", func() error {
		return bus.Approvals.Consume(ctx, actuator, bus.Consumer{Name: "actuator-approvals"}, func(context.Context, bus.Message[heal.Approval]) error {
			note(answered)
			return nil
		})
	})
	run("actuator-control", func() error {
		return bus.Controls.Follow(ctx, actuator, bus.Follower[heal.Control]{Name: "actuator-control", Take: func(bus.Message[heal.Control]) { note(paused) }})
	})
	run("notifier", func() error {
		return bus.Results.Consume(ctx, notifier, bus.Consumer{Name: "notifier"}, func(ctx context.Context, m bus.Message[heal.Result]) error {
			return bus.Notifications.Publish(ctx, notifier, heal.Notification{Channel: "slack", To: "#incidents", Severity: heal.High, Result: m.Data})
		})
	})
	run("notifier-slack", func() error {
		return bus.Notifications.Consume(ctx, notifier, bus.Consumer{Name: "notifier-slack", Filter: "slack.>"}, func(context.Context, bus.Message[heal.Notification]) error {
			note(told)
			return nil
		})
	})

	if err := bus.Failures.Publish(ctx, watcher, failure("checkout-1")); err != nil {
		t.Fatal(err)
	}
	await("the notification", told)
	await("the feedback", learned)
	if err := bus.Approvals.Publish(ctx, operator, heal.Approval{DecisionID: "d-1", Approved: true, By: "anna", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	await("the approval", answered)
	if err := bus.Controls.Publish(ctx, operator, heal.Control{Verb: heal.Pause, By: "anna", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	await("the pause", paused)

	// Many at once, so that the bus makes a batch of them.
	const crowd = 200
	stored := make(chan error, crowd)
	for i := range crowd {
		go func() { stored <- bus.Failures.Publish(ctx, watcher, failure(fmt.Sprintf("crowd-%d", i))) }()
	}
	for range crowd {
		if err := <-stored; err != nil {
			t.Fatalf("one of many: %v", err)
		}
	}
	for i := range crowd {
		await(fmt.Sprintf("notification %d of many", i), told)
		<-learned
	}

	seen := map[string]bool{}
	done := errors.New("seen")
	err := operator.Tail(ctx, time.Time{}, func(r bus.Raw) error {
		if seen[r.Stream] = true; len(seen) == 4 { // nothing was given up
			return done
		}
		return nil
	})
	if !errors.Is(err, done) {
		t.Errorf("the operator sees %v: %v", seen, err)
	}
}

func TestEachServiceKeepsItsOwnBucket(t *testing.T) {
	s := start(t)
	for _, c := range rights.Clients() {
		if len(c.Keeps) == 0 {
			continue
		}
		b := s.provisioned(t, c.Name)
		for _, bucket := range c.Keeps {
			t.Run(bucket.Name, func(t *testing.T) {
				ctx := limited(t, 20*time.Second)
				store := bus.NewStore[string](b, bucket)
				rev, err := store.Create(ctx, "some.key", "one")
				if err != nil {
					t.Fatal(err)
				}
				if rev, err = store.Update(ctx, "some.key", "two", rev); err != nil {
					t.Fatal(err)
				}
				if got, _, err := store.Get(ctx, "some.key"); err != nil || got != "two" {
					t.Fatalf("got %q, %v; want two", got, err)
				}
				if err := store.Delete(ctx, "some.key", rev); err != nil {
					t.Fatal(err)
				}
				if _, err := store.Create(ctx, "some.key", "three"); err != nil {
					t.Fatalf("create again: %v", err)
				}
				if !slices.Contains(c.Lists, bucket) {
					return
				}
				for i := range 300 {
					if _, err := store.Create(ctx, fmt.Sprintf("many.%d", i), strings.Repeat("x", 4000)); err != nil {
						t.Fatal(err)
					}
				}
				n := 0
				if err := store.All(ctx, func(string, string, uint64) bool { n++; return true }); err != nil || n != 301 {
					t.Errorf("listed %d of 301: %v", n, err)
				}
			})
		}
	}
}

func TestTheAnalyzerReadsWhatItHasToRememberAndMovesNobody(t *testing.T) {
	s := start(t)
	furnish(t, s)
	analyzer := s.bus(t, "analyzer")
	_, admin, _ := s.plain(t, "admin")
	before := picture(t, admin)
	read := map[string]int{}
	for _, stream := range []string{bus.Failures.Stream, bus.Decisions.Stream, bus.Results.Stream} {
		if err := analyzer.Scan(limited(t, 20*time.Second), stream, time.Now().Add(-time.Hour), func(r bus.Raw) error { read[r.Stream]++; return nil }); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(read, map[string]int{bus.Failures.Stream: 1}); diff != "" {
		t.Errorf("read (-got +want)\n%s", diff)
	}
	if diff := cmp.Diff(before, picture(t, admin)); diff != "" {
		t.Errorf("reading changed something (-before +after):\n%s", diff)
	}
	if err := s.bus(t, "watcher").Scan(limited(t, 20*time.Second), bus.Failures.Stream, time.Time{}, func(bus.Raw) error { return nil }); !errors.Is(err, bus.ErrPermission) {
		t.Errorf("the watcher reads a whole stream: %v", err)
	}
}

func TestWhoeverActsHearsTheWatchers(t *testing.T) {
	s := start(t)
	said := bus.NewStore[string](s.provisioned(t, "watcher"), bus.ObserversBucket)
	if _, err := said.Create(t.Context(), "before", "x"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"analyzer", "actuator"} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			heard := make(chan string, 9)
			ended := make(chan error, 1)
			go func() {
				ended <- bus.NewStore[string](s.provisioned(t, name), bus.ObserversBucket).Listen(ctx, bus.Listener[string]{
					Entry: func(e bus.Entry[string]) { heard <- e.Key }, Complete: func(bool) {},
				})
			}()
			for _, want := range []string{"before", name} {
				if want == name {
					if _, err := said.Create(ctx, name, "x"); err != nil {
						t.Fatal(err)
					}
				}
				for got := ""; got != want; {
					select {
					case got = <-heard:
					case err := <-ended:
						t.Fatal(err)
					case <-ctx.Done():
						t.Fatalf("%s was not heard", want)
					}
				}
			}
			cancel()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatCannotBeHandledBecomesADeadLetter(t *testing.T) {
	s := start(t)
	watcher, analyzer := s.provisioned(t, "watcher"), s.provisioned(t, "analyzer")
	operator := s.bus(t, "operator")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- bus.Failures.Consume(ctx, analyzer, bus.Consumer{Name: "analyzer"}, func(context.Context, bus.Message[heal.Failure]) error {
			return bus.Permanent(errors.New("no"))
		})
	}()
	if err := bus.Failures.Publish(ctx, watcher, failure("checkout-1")); err != nil {
		t.Fatal(err)
	}
	found := errors.New("found")
	err := operator.Tail(ctx, time.Time{}, func(r bus.Raw) error {
		if r.Stream == bus.DeadLetters.Stream && r.Subject == "selfheal.v1.prod_eu.dlq.analyzer" {
			return found
		}
		return nil
	})
	if !errors.Is(err, found) {
		t.Errorf("no dead letter: %v", err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestTheOperatorSeesEveryStreamEveryConsumerAndEveryWatcher(t *testing.T) {
	s := start(t)
	furnish(t, s)
	operator := s.bus(t, "operator")
	ctx := limited(t, 20*time.Second)
	in, err := operator.Inspect(ctx)
	if err != nil {
		t.Fatal(err)
	}
	consumers := 0
	for _, st := range in.Streams {
		if st.Err != nil || st.Unlisted != nil {
			t.Errorf("%s: %v; its consumers: %v", st.Name, st.Err, st.Unlisted)
		}
		consumers += len(st.Consumers)
	}
	if consumers != 5 {
		t.Errorf("%d consumers, want the 5 that there are", consumers)
	}
	if _, err := bus.NewStore[string](s.bus(t, "watcher"), bus.ObserversBucket).Create(ctx, "one", "x"); err != nil {
		t.Fatal(err)
	}
	seen := 0
	if err := bus.NewStore[string](operator, bus.ObserversBucket).All(ctx, func(string, string, uint64) bool { seen++; return true }); err != nil || seen != 1 {
		t.Errorf("%d watchers, want 1: %v", seen, err)
	}
	if err := bus.Controls.Publish(ctx, operator, heal.Control{Verb: heal.Pause, By: "anna", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	following, stop := context.WithCancel(ctx)
	paused := false
	if err := bus.Controls.Follow(following, operator, bus.Follower[heal.Control]{Name: "selfheal", Take: func(bus.Message[heal.Control]) { paused = true; stop() }}); err != nil || !paused {
		t.Errorf("the pause is not seen: %v", err)
	}
	stop()
	if _, err := operator.Read(ctx, []string{heal.StreamPrefix + "AUDIT"}, time.Time{}, func(bus.Raw) error { return nil }); err != nil {
		t.Errorf("the audit: %v", err)
	}
}

func failure(pod string) heal.Failure {
	now := time.Now()
	target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: pod, UID: "uid-" + pod, ResourceVersion: "1"}
	return heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium, ResourceName: pod, Namespace: "shop",
		Description: "container api is in CrashLoopBackOff", Timestamp: heal.Unix{Time: now}, Target: target, Detector: "crash_loop",
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, target, heal.Target{}, "api", "CrashLoopBackOff"),
		EpisodeID:   heal.MakeEpisodeID(cluster, target.UID, "crash_loop", "api", now),
		Occurrence:  1, FirstSeen: now,
	}
}

func decide(f heal.Failure) heal.Decision {
	return heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: f.IncidentID(), Type: f.Type, Severity: heal.High, BaseSeverity: heal.Medium,
		Strategy: heal.Recreate, ActionType: f.Type.ActionType(), Mode: heal.ModeAuto, Reason: heal.ReasonSeverityTable,
		Expires: time.Now().Add(5 * time.Minute), Target: f.Target, Parameters: map[string]string{},
		Cause: heal.Cause{Kind: heal.CauseUnknown}, Policy: heal.PolicyRef{Name: "default", Revision: "sha256:0", Rule: "pod_failure/high"},
		Explanation: heal.Explanation{Summary: "recreate", Steps: []string{"recreate"}}, Failure: f,
	}
}
