package rights_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/test/chart/rights"
)

const cluster = "prod.eu" // its token is prod_eu

// A stage is a NATS server with the chart's accounts, and the keys to it.
type stage struct {
	*bustest.Server
	seeds map[string]string // client to the file of its seed
}

func start(t *testing.T) stage {
	t.Helper()
	dir := t.TempDir()
	s := stage{seeds: map[string]string{}}
	names := []string{"admin"}
	for _, c := range rights.Clients() {
		names = append(names, c.Name)
	}
	for _, name := range names {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		seed, err := pair.Seed()
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv(strings.ToUpper(name)+"_NKEY", public)
		s.seeds[name] = filepath.Join(dir, name)
		if err := os.WriteFile(s.seeds[name], seed, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "nats.conf")
	conf := "system_account: SYS\n" + strings.ReplaceAll(string(rights.NATS()), "@CLUSTER@", heal.Token(cluster))
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port = "127.0.0.1", server.RANDOM_PORT
	s.Server = bustest.Configure(t, *opts)
	return s
}

// bus is what the service itself would use.
func (s stage) bus(t *testing.T, client string) *bus.Bus {
	t.Helper()
	name := client
	if client == "operator" {
		name = "selfheal"
	}
	return s.Connect(t, bus.Options{URL: s.URL(), Service: name, Cluster: cluster, NKeyFile: s.seeds[client]})
}

// plain is a client with the service's key that does as it likes. Its errors
// go to the channel.
func (s stage) plain(t *testing.T, client string) (*nats.Conn, jetstream.JetStream, <-chan error) {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(s.seeds[client])
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 64)
	inbox := client
	for _, c := range rights.Clients() {
		if c.Name == client {
			inbox = c.Inbox
		}
	}
	nc, err := nats.Connect(s.URL(), key, nats.CustomInboxPrefix("_INBOX_"+inbox), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case refused <- err:
		default: // nobody looks at so many
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return nc, js, refused
}

func limited(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func (s stage) provisioned(t *testing.T, client string) *bus.Bus {
	t.Helper()
	b := s.bus(t, client)
	if err := b.Provision(limited(t, 20*time.Second)); err != nil {
		t.Fatalf("%s: provision: %v", client, err)
	}
	if err := b.Ready(); err != nil {
		t.Fatalf("%s: %v", client, err)
	}
	return b
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
