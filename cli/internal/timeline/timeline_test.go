package timeline

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

var update = flag.Bool("update", false, "write the golden files anew")

var start = time.Date(2026, 11, 22, 12, 19, 20, 0, time.UTC)

func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

// raw is a message as it lies in its stream, published at the given second.
func raw[T heal.Payload](t *testing.T, stream, service string, published float64, data T) bus.Raw {
	t.Helper()
	e := heal.NewEvent(data, "demo", service, at(published))
	if err := data.Validate(); err != nil {
		t.Fatalf("%s: %v", e.Type, err)
	}
	body, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return bus.Raw{Subject: data.Head().Subject("demo"), Stream: stream, Time: at(published), Data: body}
}

func pod(name string) heal.Target {
	return heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: name, UID: "uid-" + name}
}

func deployment(name string) heal.Target {
	return heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: name, UID: "uid-" + name}
}

func node(name string) heal.Target {
	return heal.Target{APIVersion: "v1", Kind: "Node", Name: name, UID: "uid-" + name}
}

func crash(name string, first float64, occurrence int, now float64) heal.Failure {
	owner := deployment(strings.SplitN(name, "-", 2)[0])
	return heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium,
		ResourceName: name, Namespace: "shop",
		Description: "container api is in CrashLoopBackOff: 4 restarts, last exit 1",
		Timestamp:   heal.Unix{Time: at(now)},
		Target:      pod(name), Owner: owner, Detector: "crash_loop",
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, pod(name), owner, "api", "CrashLoopBackOff"),
		EpisodeID:   heal.MakeEpisodeID("demo", "uid-"+name, "crash_loop", "api", at(first)),
		Occurrence:  occurrence, FirstSeen: at(first),
	}
}

func dead(name string, first float64) heal.Failure {
	return heal.Failure{
		Type: heal.NodeFailure, Reason: "NodeStatusUnknown", Severity: heal.Critical,
		ResourceName: name,
		Description:  "node has been NotReady for 12 s: Kubelet stopped posting node status.",
		Timestamp:    heal.Unix{Time: at(first)},
		Target:       node(name), Node: name, Detector: "node_not_ready",
		Fingerprint: heal.MakeFingerprint(heal.NodeFailure, node(name), heal.Target{}, "", "NodeStatusUnknown"),
		EpisodeID:   heal.MakeEpisodeID("demo", "uid-"+name, "node_not_ready", "", at(first)),
		Occurrence:  1, FirstSeen: at(first),
	}
}

func decide(f heal.Failure, strategy heal.Strategy, change func(*heal.Decision)) heal.Decision {
	d := heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: f.IncidentID(), Type: f.Type,
		Severity: f.Severity, BaseSeverity: f.Severity, Strategy: strategy, ActionType: f.Type.ActionType(),
		Mode: heal.ModeAuto, Reason: heal.ReasonSeverityTable, Expires: f.Timestamp.Add(5 * time.Minute),
		Target: f.Target, Failure: f, Cause: heal.Cause{Kind: heal.CauseUnknown},
	}
	if change != nil {
		change(&d)
	}
	return d
}

func end(d heal.Decision, outcome heal.Outcome, message string, began, took float64, steps ...heal.Step) heal.Result {
	return heal.Result{
		Decision: d, Outcome: outcome, Reason: "Because", Message: message, Attempt: 1,
		StartedAt: at(began), Duration: took, Steps: steps,
	}
}

// The stories, told in the golden files of the same names.
func stories(t *testing.T) map[string][][]bus.Raw {
	failure := func(f heal.Failure, published float64) bus.Raw {
		return raw(t, bus.Failures.Stream, "watcher", published, f)
	}
	decision := func(d heal.Decision, published float64) bus.Raw {
		return raw(t, bus.Decisions.Stream, "analyzer", published, d)
	}
	result := func(r heal.Result, published float64) bus.Raw {
		return raw(t, bus.Results.Stream, "actuator", published, r)
	}
	told := func(r heal.Result, channel, to string, published float64) bus.Raw {
		n := heal.Notification{Channel: channel, To: to, Severity: r.Decision.Severity, Result: r}
		return raw(t, bus.Notifications.Stream, "notifier", published, n)
	}

	first := crash("checkout-7d9f6c-x2kpl", 4.2, 1, 4.2)
	restart := decide(first, heal.Restart, nil)
	healed := end(restart, heal.Succeeded, "replacement checkout-7d9f6c-9fjq2 has been Ready for 5 s", 4.3, 29.2,
		heal.Step{Name: "precheck", Status: heal.StepOK, Milliseconds: 9},
		heal.Step{Name: "evict", Status: heal.StepOK, Milliseconds: 41},
		heal.Step{Name: "verify", Status: heal.StepOK, Milliseconds: 8211})
	over := first
	over.ResolvedAt = at(6)

	again := crash("catalog-6b8d55-aaaaa", 40, 2, 44)
	second := crash("catalog-6b8d55-bbbbb", 41, 1, 41)
	recreate := decide(second, heal.Recreate, func(d *heal.Decision) {
		d.IncidentID = again.IncidentID()
		d.Severity, d.SimilarFailures = heal.High, 2
		d.Cause.Kind = heal.CauseRollout
	})
	notHealed := end(recreate, heal.Failed, "the replacement catalog-6b8d55-ccccc crashes too", 41.5, 20,
		heal.Step{Name: "evict", Status: heal.StepOK, Milliseconds: 12},
		heal.Step{Name: "verify", Status: heal.StepFailed, Milliseconds: 20000, Detail: "it crashes too"})

	broken := dead("node-2", 50)
	drain := decide(broken, heal.DrainAndReplace, func(d *heal.Decision) { d.Severity = heal.High })

	letter := heal.DeadLetter{Stage: "analyzer", Reason: heal.DeadBadMessage, Error: `type: "dev.other.v9" not supported here`,
		Stream: bus.Failures.Stream, Sequence: 12}

	return map[string][][]bus.Raw{
		"a_pod_that_crashes_once": {
			{decision(restart, 4.21), failure(first, 4.2)},
			{failure(over, 6)},
			{told(healed, "webhook", "", 33.52), result(healed, 33.5), told(healed, "slack", "#monitoring", 33.51)},
		},
		"a_failure_that_ends_by_itself": {
			{failure(first, 4.2)},
			{failure(over, 6)},
		},
		"a_restart_that_does_not_help": {
			{failure(again, 44), decision(decide(again, heal.Monitor, func(d *heal.Decision) { d.Reason = heal.ReasonRecoveryUnderWay }), 44.01)},
			{failure(second, 41), decision(recreate, 41.2)},
			{result(notHealed, 61.5)},
		},
		"what_is_not_done": {
			{failure(broken, 50)},
			{decision(decide(broken, heal.DrainAndReplace, func(d *heal.Decision) {
				d.Guards = []heal.Verdict{{Name: "protected", Allowed: true}, {Name: "storm", Reason: "Storm", Detail: "2 of 3 nodes are unhealthy, at most 1 may be"}}
			}), 50.1)},
			{decision(decide(broken, heal.EmergencyReplace, func(d *heal.Decision) { d.Mode = heal.ModeObserve }), 50.2)},
			{decision(decide(broken, heal.DrainAndReplace, func(d *heal.Decision) { d.Mode = heal.ModeApprove }), 50.3)},
			{decision(decide(first, heal.Monitor, func(d *heal.Decision) {
				d.Reason, d.Explanation.Summary = "NotFixed", "two restarts did not help; a person should look"
			}), 50.4)},
			{decision(decide(broken, heal.DrainAndReplace, func(d *heal.Decision) {
				d.Reason = heal.ReasonGivenUp
				d.Guards = []heal.Verdict{{Name: "backoff", Reason: heal.ReasonGivenUp, Detail: "3 failed tries in a row, a person must look"}}
			}), 50.4)},
			{decision(decide(broken, heal.DrainAndReplace, func(d *heal.Decision) {
				d.Reason = heal.ReasonGivenUp
				d.Guards = []heal.Verdict{{Name: "backoff", Reason: heal.ReasonGivenUp, Detail: "3 failed tries in a row, a person must still look"}}
			}), 50.4)},
			{result(end(decide(first, heal.Monitor, nil), heal.Skipped, "nothing to do", 50.4, 0), 50.41)},
			{result(end(drain, heal.Rejected, "node-2 was cordoned by somebody else", 50.5, 0.01), 50.51)},
			{result(end(drain, heal.TimedOut, "node-2 is still NotReady", 50.6, 300, heal.Step{Name: "cordon", Status: heal.StepOK, Milliseconds: 9},
				heal.Step{Name: "evict", Status: heal.StepOK, Milliseconds: 30}, heal.Step{Name: "evict", Status: heal.StepOK, Milliseconds: 40},
				heal.Step{Name: "evict", Status: heal.StepFailed, Milliseconds: 5, Detail: "a disruption budget forbids it"},
				heal.Step{Name: "drain", Status: heal.StepOK, Detail: "2 pods evicted"}), 350.6)},
			{result(end(drain, heal.DryRun, "node-2 would be cordoned", 50.7, 0), 50.7)},
			{result(end(drain, heal.Skipped, "node-2 is gone", 50.8, 0), 50.8)},
		},
		"what_people_say": {
			{raw(t, bus.Controls.Stream, "selfheal", 1, heal.Control{Verb: heal.Pause, By: "ann@laptop", Reason: "the database moves", At: at(1), Until: at(3601)})},
			{raw(t, bus.Controls.Stream, "selfheal", 2, heal.Control{Verb: heal.Pause, By: "ann@laptop", At: at(2)})},
			{raw(t, bus.Controls.Stream, "selfheal", 3, heal.Control{Verb: heal.Resume, By: "ben@laptop", At: at(3)})},
			{raw(t, bus.Approvals.Stream, "selfheal", 4, heal.Approval{DecisionID: "d-1", Approved: true, By: "ann@laptop", Reason: "looked at the logs", At: at(4)})},
			{raw(t, bus.Approvals.Stream, "selfheal", 5, heal.Approval{DecisionID: "d-2", By: "ben@laptop", At: at(5)})},
		},
		"messages_of_others": {
			{raw(t, heal.StreamPrefix+"DLQ", "analyzer", 3, letter)},
			{{Subject: "selfheal.v1.demo.failures.pod_failure.shop.pod.x", Stream: bus.Failures.Stream, Time: at(3), Data: []byte(`{"hello":"\u001b[31mworld`)}},
			{{Subject: "elsewhere", Stream: "OTHERS", Time: at(4), Data: []byte("?")}},
		},
	}
}

func TestStoriesAreToldInPlainWords(t *testing.T) {
	for name, batches := range stories(t) {
		for _, width := range []int{0, 80} {
			file := name + ".txt"
			if width != 0 {
				file = name + ".80.txt"
			}
			t.Run(file, func(t *testing.T) {
				var tl Timeline
				style := Style{Start: start, Width: width}
				got := style.Header() + "\n"
				for _, batch := range batches {
					for _, line := range tl.Add(batch) {
						got += style.Format(line) + "\n"
					}
				}
				golden(t, file, got)
			})
		}
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
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
		t.Errorf("told otherwise (-want +got):\n%s", diff)
	}
}

func TestNoLineIsWiderThanTheScreen(t *testing.T) {
	for name, batches := range stories(t) {
		for _, width := range []int{60, 80, 120} {
			var tl Timeline
			style := Style{Start: start, Width: width}
			for _, batch := range batches {
				for _, line := range tl.Add(batch) {
					for l := range strings.SplitSeq(style.Format(line), "\n") {
						if n := len([]rune(l)); n > width {
							t.Errorf("%s: %d columns on a screen of %d: %q", name, n, width, l)
						}
					}
				}
			}
		}
	}
}

func TestWithoutColoursThereIsNoEscapeSequence(t *testing.T) {
	for name, batches := range stories(t) {
		var out strings.Builder
		l := NewLive(screen.To(&out), start)
		for _, messages := range batches {
			l.print(batch{messages: messages})
		}
		if strings.Contains(out.String(), "\x1b") {
			t.Errorf("%s: %q", name, out.String())
		}
	}
}

func TestWhatIsUnderWayEndsWithItsResult(t *testing.T) {
	all := stories(t)["a_pod_that_crashes_once"]
	var tl Timeline
	tl.Add(all[0])
	f := crash("checkout-7d9f6c-x2kpl", 4.2, 1, 4.2)
	want := []UnderWay{{Decision: heal.MakeDecisionID(f), Incident: 1, Strategy: heal.Restart, About: "shop/checkout-7d9f6c-x2kpl", Since: at(4.21)}}
	if diff := cmp.Diff(want, tl.UnderWay()); diff != "" {
		t.Errorf("under way after the decision (-want +got):\n%s", diff)
	}
	tl.Add(all[2])
	if got := tl.UnderWay(); len(got) != 0 {
		t.Errorf("under way after the result: %+v", got)
	}
}

func TestIncidentsAreNamedLikeColumns(t *testing.T) {
	for n, want := range map[int]string{0: "", 1: "A", 26: "Z", 27: "AA", 52: "AZ", 53: "BA", 702: "ZZ", 703: "AAA"} {
		if got := tag(n); got != want {
			t.Errorf("incident %d is %q, want %q", n, got, want)
		}
	}
}

func TestDurationsReadAsAPersonSaysThem(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second:                       "0 ms",
		41 * time.Millisecond:              "41 ms",
		4210 * time.Millisecond:            "4.2 s",
		59960 * time.Millisecond:           "1 min 0 s",
		125 * time.Second:                  "2 min 5 s",
		3*time.Hour + 4*time.Minute + 1999: "3 h 4 min",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
}
