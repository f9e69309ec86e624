package command

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/cli/internal/embed"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
)

var update = flag.Bool("update", false, "write the golden files")

// golden compares got with a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func TestTheHelpOfTheOperatorsCommands(t *testing.T) {
	for _, name := range []string{"approve", "reject", "pause", "resume", "undo"} {
		out, err := execute(t, name, "--help")
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", out)
	}
}

// system is a running NATS server with its streams, that has a data directory
// as `up` does, and a bus of its own.
func system(t *testing.T) (dir string, b *bus.Bus) {
	t.Helper()
	dir = t.TempDir()
	s, err := embed.Start(t.Context(), embed.Options{Dir: filepath.Join(dir, "nats"), Cluster: "staging"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	if b, err = bus.Connect(bus.Options{URL: s.URL(), Service: "analyzer", Cluster: "staging"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	if err := b.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	return dir, b
}

// decision is one about the pod of that name.
func decision(name string, expires time.Time) heal.Decision {
	target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: name, UID: "uid-of-" + name}
	f := heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium, ResourceName: name, Namespace: "shop", Description: "it crashes",
		Timestamp: heal.Unix{Time: expires}, Target: target, Detector: "crash_loop", EpisodeID: heal.ID("e", name), Occurrence: 1,
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, target, heal.Target{}, "app", "CrashLoopBackOff"), FirstSeen: expires,
	}
	return heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: f.IncidentID(), Type: f.Type, Severity: heal.Medium, BaseSeverity: heal.Medium,
		Strategy: heal.Restart, ActionType: f.Type.ActionType(), Mode: heal.ModeApprove, Reason: heal.ReasonSeverityTable, Expires: expires,
		Target: target, Cause: heal.Cause{Kind: heal.CauseUnknown}, Policy: heal.PolicyRef{Name: "default", Revision: "sha256:0", Rule: "pod_failure"}, Failure: f,
	}
}

// last is the last message of a topic's subject.
func last[T heal.Payload](t *testing.T, b *bus.Bus, topic bus.Topic[T]) T {
	t.Helper()
	found := make(chan T, 1)
	go func() {
		_ = topic.Follow(t.Context(), b, bus.Follower[T]{Name: "test", Take: func(m bus.Message[T]) {
			select {
			case <-found:
			default:
			}
			found <- m.Data
		}})
	}()
	select {
	case v := <-found:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("nothing was published to %s", topic.Root)
		panic("unreachable")
	}
}

func TestAnAnswerIsPublishedOnceAndOnlyToWhatWaitsForIt(t *testing.T) {
	dir, b := system(t)
	run := func(args ...string) (string, error) {
		t.Helper()
		return execute(t, append(args, "--data-dir", dir, "--by", "ann@laptop")...)
	}
	if out, err := run("approve"); err != nil || out != "no decision on cluster staging waits for an answer\n" {
		t.Errorf("printed %q, %v", out, err)
	}
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	first, second, ended := decision("one", noon), decision("two", noon.Add(time.Minute)), decision("three", noon)
	for _, d := range []heal.Decision{first, second, ended} {
		if err := bus.Decisions.Publish(t.Context(), b, d); err != nil {
			t.Fatal(err)
		}
	}
	result := heal.Result{Decision: ended, Outcome: heal.Skipped, Reason: heal.ReasonRecovered, Message: "it is well", StartedAt: noon}
	if err := bus.Results.Publish(t.Context(), b, result); err != nil {
		t.Fatal(err)
	}

	out, err := run("approve")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "waiting.txt", out)

	if out, err = run("approve", first.ID, "--reason", "looked at it"); err != nil || out != "approved: restart of shop/Pod/one, as ann@laptop\n" {
		t.Errorf("printed %q, %v", out, err)
	}
	got := last(t, b, bus.Approvals)
	got.At = time.Time{}
	if diff := cmp.Diff(heal.Approval{DecisionID: first.ID, Approved: true, By: "ann@laptop", Reason: "looked at it"}, got); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	if out, err = run("reject", second.ID); err != nil || out != "rejected: restart of shop/Pod/two, as ann@laptop\n" {
		t.Errorf("printed %q, %v", out, err)
	}
	for _, tt := range []struct{ args, says string }{
		{"reject " + first.ID, "was answered already: approved by ann@laptop"},
		{"approve " + ended.ID, "has ended already: skipped, Recovered: it is well"},
		{"approve d-unknown", "no decision d-unknown that asks for a change was made on cluster staging within the last 30m0s"},
	} {
		_, err := run(strings.Fields(tt.args)...)
		var usage usageError
		if err == nil || errors.As(err, &usage) || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v, want %q", tt.args, err, tt.says)
		}
	}
}

func TestAPauseAndItsEndArePublished(t *testing.T) {
	dir, b := system(t)
	out, err := execute(t, "pause", "--reason", "the database moves", "--for", "1h", "--data-dir", dir, "--by", "ann@laptop")
	if err != nil || out != "paused: nothing is changed on cluster staging for 1h0m0s, or until `selfheal resume`\n" {
		t.Errorf("printed %q, %v", out, err)
	}
	got := last(t, b, bus.Controls)
	if span := got.Until.Sub(got.At); span < 59*time.Minute || span > time.Hour {
		t.Errorf("it lasts %s", span)
	}
	got.At, got.Until = time.Time{}, time.Time{}
	if diff := cmp.Diff(heal.Control{Verb: heal.Pause, By: "ann@laptop", Reason: "the database moves"}, got); diff != "" {
		t.Errorf("published (-want +got):\n%s", diff)
	}
	if out, err = execute(t, "pause", "--data-dir", dir); err != nil || out != "paused: nothing is changed on cluster staging until `selfheal resume`\n" {
		t.Errorf("printed %q, %v", out, err)
	}
	if out, err = execute(t, "resume", "--data-dir", dir); err != nil || out != "resumed: acting on cluster staging goes on\n" {
		t.Errorf("printed %q, %v", out, err)
	}
}

func TestUndoTellsWhatBecameOfIt(t *testing.T) {
	dir, b := system(t)
	answer := heal.Control{Verb: heal.TakenBack, By: "selfheal-actuator", Outcome: heal.Succeeded, Reason: "Undone: what the decision changed was taken back"}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { // an actuator
		ended <- bus.Controls.Consume(ctx, b, bus.Consumer{Name: "actuator-undo"}, func(ctx context.Context, m bus.Message[heal.Control]) error {
			if m.Data.Verb != heal.TakeBack {
				return nil
			}
			a := answer
			a.At, a.DecisionID = m.Data.At, m.Data.DecisionID
			if a.DecisionID == "d-2" {
				a.Outcome, a.Reason = heal.Rejected, "ChangedSince: it is another by now"
			}
			return bus.Controls.Publish(ctx, b, a)
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if out, err := execute(t, "undo", "d-1", "--data-dir", dir); err != nil || out != "undone: Undone: what the decision changed was taken back\n" {
		t.Errorf("printed %q, %v", out, err)
	}
	if _, err := execute(t, "undo", "d-2", "--data-dir", dir); err == nil || err.Error() != "not undone (rejected): ChangedSince: it is another by now" {
		t.Errorf("refused: %v", err)
	}
	if _, err := execute(t, "undo"); err == nil || err.Error() != "which decision? Give its id" {
		t.Errorf("without an id: %v", err)
	}
}

func TestMistakesOfOperatorsAreNamed(t *testing.T) {
	for _, tt := range []struct {
		args string
		want string
	}{
		{"reject", "which decision? Give its id; `selfheal approve` lists those that wait"},
		{"approve a/b", `"a/b" is not a decision's id, such as d-2b5nk1hr4tp6k3v9q0e8c7ma`},
		{"approve d-1 d-2", `unexpected argument "d-2": one decision at a time`},
		{"pause now", `unexpected argument "now"`},
		{"pause --for -1h", "--for -1h0m0s: want 0 or more"},
		{"resume --timeout 0s", "--timeout 0s: want more than 0"},
	} {
		_, err := execute(t, strings.Fields(tt.args)...)
		var usage usageError
		if !errors.As(err, &usage) || err.Error() != tt.want {
			t.Errorf("%s: got %v, want the usage error %q", tt.args, err, tt.want)
		}
	}
	if _, err := execute(t, "pause", "--nats-url", "http://nats"); !errors.Is(err, config.ErrSettings) {
		t.Errorf("a wrong address: %v", err)
	}
}

func TestAnAbsentServerIsNotWaitedForForEver(t *testing.T) {
	began := time.Now()
	_, err := execute(t, "pause", "--nats-url", "nats://127.0.0.1:1", "--timeout", "300ms")
	if err == nil || !strings.Contains(err.Error(), "127.0.0.1:1") || !strings.Contains(err.Error(), "--nats-url") {
		t.Errorf("got %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("that took %s", took)
	}
	if got := Main([]string{"pause", "--nats-url", "nats://127.0.0.1:1", "--timeout", "300ms"}); got != exitFailed {
		t.Errorf("exit code %d, want %d", got, exitFailed)
	}
	if got := Main([]string{"reject"}); got != exitUsage {
		t.Errorf("exit code %d, want %d", got, exitUsage)
	}
	if who := whoami(); who == "" || strings.ContainsAny(who, "\n ") {
		t.Errorf("whoami is %q", fmt.Sprint(who))
	}
}
