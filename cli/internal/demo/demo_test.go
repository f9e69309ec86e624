package demo

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

var update = flag.Bool("update", false, "write the golden files anew")

var zero = time.Date(2026, 11, 22, 12, 19, 20, 0, time.UTC)

func at(seconds float64) time.Time {
	return zero.Add(time.Duration(seconds * float64(time.Second)))
}

func raw[T heal.Payload](t *testing.T, stream string, published float64, data T) bus.Raw {
	t.Helper()
	if err := data.Validate(); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(heal.NewEvent(data, "demo", "test", at(published)))
	if err != nil {
		t.Fatal(err)
	}
	return bus.Raw{Subject: data.Head().Subject("demo"), Stream: stream, Time: at(published), Data: body}
}

func crash(workload, pod string, seen float64) heal.Failure {
	target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: namespace, Name: pod, UID: "uid-" + pod}
	owner := heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: namespace, Name: workload, UID: "uid-" + workload}
	return heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium, ResourceName: pod, Namespace: namespace,
		Description: "it crashes", Timestamp: heal.Unix{Time: at(seen)}, Target: target, Owner: owner, Detector: "crash_loop",
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, target, owner, "api", "CrashLoopBackOff"),
		EpisodeID:   heal.MakeEpisodeID("demo", target.UID, "crash_loop", "api", at(seen)), Occurrence: 1, FirstSeen: at(seen),
	}
}

func decide(f heal.Failure, s heal.Strategy, guards ...heal.Verdict) heal.Decision {
	d := heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: f.IncidentID(), Type: f.Type, Severity: f.Severity, BaseSeverity: f.Severity,
		Strategy: s, ActionType: f.Type.ActionType(), Mode: heal.ModeAuto, Reason: heal.ReasonSeverityTable,
		Expires: f.Timestamp.Add(time.Minute), Target: f.Target, Failure: f, Guards: guards, Cause: heal.Cause{Kind: heal.CauseUnknown},
	}
	for _, v := range guards {
		if !v.Allowed {
			d.Reason = v.Reason
		}
	}
	return d
}

func end(d heal.Decision, outcome heal.Outcome, began, took float64, steps ...string) heal.Result {
	r := heal.Result{Decision: d, Outcome: outcome, Reason: "Because", Attempt: 1, StartedAt: at(began), Duration: took}
	for _, s := range steps {
		r.Steps = append(r.Steps, heal.Step{Name: s, Status: heal.StepOK, Milliseconds: 7})
	}
	return r
}

func resolved(f heal.Failure, when float64) heal.Failure {
	f.ResolvedAt = at(when)
	return f
}

func TestAnObservationIsWhatTheMessagesTell(t *testing.T) {
	first, second, other := crash("cart", "cart-1", 4), crash("cart", "cart-2", 20), crash("checkout", "checkout-1", 5)
	restart := decide(first, heal.Restart)
	giveUp := decide(second, heal.Recreate, heal.Verdict{Name: "protected", Allowed: true}, heal.Verdict{Name: "backoff", Reason: heal.ReasonGivenUp})
	rest := decide(second, heal.Recreate, heal.Verdict{Name: "backoff", Reason: "Backoff"})
	watchOnly := decide(first, heal.Monitor)
	told := heal.Notification{Channel: "slack", Severity: heal.Medium, Result: end(restart, heal.Failed, 5, 10, "evict")}

	tests := []struct {
		name     string
		messages []bus.Raw
		want     observation
	}{
		{"nothing about it is nothing", []bus.Raw{
			raw(t, bus.Failures.Stream, 5, other),
			raw(t, bus.Decisions.Stream, 5, decide(other, heal.Restart)),
			raw(t, bus.Results.Stream, 9, end(decide(other, heal.Restart), heal.Succeeded, 5, 4, "evict")),
			{Stream: bus.Failures.Stream, Data: []byte("what?")},
		}, observation{}},
		{"a failure that is seen again was seen first when it was first", []bus.Raw{
			raw(t, bus.Failures.Stream, 5, first), raw(t, bus.Failures.Stream, 7, first),
		}, observation{Seen: at(4), Open: []string{first.EpisodeID}}},
		{"a success", []bus.Raw{
			raw(t, bus.Failures.Stream, 5, first),
			raw(t, bus.Decisions.Stream, 5.5, restart),
			raw(t, bus.Failures.Stream, 6, resolved(first, 6)),
			raw(t, bus.Results.Stream, 16, end(restart, heal.Succeeded, 5.6, 10, "precheck", "evict", "verify")),
			raw(t, bus.Notifications.Stream, 16, told),
		}, observation{
			Seen: at(4), Decided: at(5.5), Acted: at(5.6), Healed: at(15.6), Resolved: at(6), Told: at(16), Open: []string{},
			Strategies: []heal.Strategy{heal.Restart}, Outcomes: []heal.Outcome{heal.Succeeded}, Steps: []string{"evict"},
		}},
		{"a restart that did not help, and a person is called", []bus.Raw{
			raw(t, bus.Failures.Stream, 5, first),
			raw(t, bus.Decisions.Stream, 5.5, restart),
			raw(t, bus.Results.Stream, 16, end(restart, heal.Failed, 5.6, 10, "evict")),
			raw(t, bus.Failures.Stream, 20, second),
			raw(t, bus.Decisions.Stream, 20.1, rest),
			raw(t, bus.Results.Stream, 20.2, end(rest, heal.Skipped, 20.1, 0)),
			raw(t, bus.Decisions.Stream, 25, giveUp),
		}, observation{
			Seen: at(4), Decided: at(5.5), Acted: at(5.6), HandedOver: at(25), Open: []string{first.EpisodeID, second.EpisodeID},
			Strategies: []heal.Strategy{heal.Restart}, Outcomes: []heal.Outcome{heal.Failed}, Steps: []string{"evict"},
		}},
		{"a decision to watch is no decision to act", []bus.Raw{
			raw(t, bus.Decisions.Stream, 5.5, watchOnly),
			raw(t, bus.Results.Stream, 5.6, end(watchOnly, heal.Skipped, 5.5, 0)),
		}, observation{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got observation
			for _, m := range tt.messages {
				got = got.add(m, ofWorkload("cart"))
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("observed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestHowAScenarioEnds(t *testing.T) {
	rolledBack := observation{Healed: at(9), HandedOver: at(3), Strategies: []heal.Strategy{heal.Restart, heal.Rollback}}
	tests := []struct {
		name  string
		wants ending
		o     observation
		err   error
		want  ending
		right bool
	}{
		{"healed as it should", healed, observation{Healed: at(9)}, nil, healed, true},
		{"handed over as it should", handedOver, observation{HandedOver: at(9)}, nil, handedOver, true},
		{"handed over though some restart had seemed to help", handedOver, observation{Healed: at(3), HandedOver: at(9)}, nil, handedOver, true},
		{"healed by a roll-back after all", healed, rolledBack, nil, healed, true},
		{"healed what nothing should have helped", handedOver, observation{Healed: at(9)}, nil, healed, false},
		{"handed over what it should have healed", healed, observation{HandedOver: at(9)}, nil, handedOver, false},
		{"no end in time", healed, observation{Healed: at(9)}, errors.New("late"), neither, false},
		{"nothing happened", healed, observation{}, nil, neither, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := played{scenario{wants: tt.wants}, tt.o, tt.err}
			if p.ending() != tt.want || p.right() != tt.right {
				t.Errorf("it ended %q, right %v; want %q, %v", p.ending(), p.right(), tt.want, tt.right)
			}
		})
	}
}

func TestTheTableIsHonest(t *testing.T) {
	all := []played{
		{scenario{name: "a pod crashes", wants: healed}, observation{
			Broken: at(0), Seen: at(4.2), Decided: at(4.25), Acted: at(4.3), Healed: at(12.5), Steps: []string{"evict"}}, nil},
		{scenario{name: "a node dies", wants: healed}, observation{
			Broken: at(20), Seen: at(30), Decided: at(30.1), Acted: at(30.2), Steps: []string{"cordon", "evict", "evict", "evict", "uncordon"}},
			errors.New("waited in vain for the node's recovery to be proven: it took longer than 2m0s")},
		{scenario{name: "a bad image is rolled out", wants: handedOver}, observation{
			Broken: at(60), Seen: at(64), Decided: at(64.1), Acted: at(64.2), HandedOver: at(99.9), Steps: []string{"evict", "delete"}}, nil},
		{scenario{name: "something else", wants: healed}, observation{Broken: at(100), HandedOver: at(110)}, nil},
	}
	got := table(screen.Paint{}, all)
	path := filepath.Join("testdata", "table.txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("the table differs (-want +got):\n%s", diff)
	}
}

func TestOnlyAWholeAndRightDemoIsRight(t *testing.T) {
	var right []played
	for _, s := range scenarios {
		o := observation{Healed: at(1)}
		if s.wants == handedOver {
			o = observation{HandedOver: at(1)}
		}
		right = append(right, played{scenario: s, o: o})
	}
	if !allRight(right, len(scenarios)) {
		t.Error("all as it should be is not right")
	}
	if allRight(right[1:], len(scenarios)) {
		t.Error("right although one was not played")
	}
	wrong := append([]played{}, right...)
	wrong[0].err = errors.New("no")
	if allRight(wrong, len(scenarios)) {
		t.Error("right although one went wrong")
	}
}
