package command

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer"
)

// files writes files into a directory of the test's own, and makes it the
// working directory, so that what is printed is the same everywhere.
func files(t *testing.T, texts map[string]string) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
}

func TestTheHelpOfThePolicyCommands(t *testing.T) {
	for name, args := range map[string][]string{
		"policy": {"policy"}, "policy-lint": {"policy", "lint"}, "policy-test": {"policy", "test"}, "policy-diff": {"policy", "diff"},
		"simulate": {"simulate"}, "explain": {"explain"},
	} {
		out, err := execute(t, append(args, "--help")...)
		if err != nil {
			t.Fatal(err)
		}
		golden(t, name+".txt", out)
	}
}

func TestPoliciesAreCheckedTestedAndCompared(t *testing.T) {
	files(t, map[string]string{
		"good.yaml":      "name: good\nrules:\n- {name: shop by hand, match: failure.namespace == \"shop\", mode: approve}\n",
		"good_test.yaml": "tests:\n- name: in the shop\n  given: {}\n  want: {mode: approve}\n- name: elsewhere\n  given: {namespace: bank}\n  want: {mode: auto, strategy: restart}\n",
		"odd.yaml":       "name: odd\nrules:\n- {name: all, mode: observe}\n- {name: never, mode: approve}\n",
		"bad.yaml":       "name: bad\nrulez: []\nguards:\n  give_up: {aftr: 3}\n",
		"bad_test.yaml":  "policy: good.yaml\ntests:\n- name: in the shop\n  given: {}\n  want: {mode: auto, severity: medium}\n",
	})
	for _, tt := range []struct {
		name string
		args string
		fail bool
	}{
		{"lint", "policy lint good.yaml odd.yaml bad.yaml good_test.yaml", true},
		{"lint-strict", "policy lint --strict odd.yaml", true},
		{"test", "policy test -v good.yaml", false},
		{"test-fails", "policy test good_test.yaml bad_test.yaml", true},
		{"diff", "policy diff built-in good.yaml", true},
		{"diff-same", "policy diff good.yaml good.yaml", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, err := execute(t, strings.Fields(tt.args)...)
			if errors.Is(err, errSilent) != tt.fail || err != nil && !tt.fail {
				t.Errorf("error %v", err)
			}
			t.Chdir(packageDir)
			golden(t, "policy-"+tt.name+"-out.txt", out)
		})
	}
}

// packageDir is where the golden files are.
var packageDir = func() string {
	dir, err := os.Getwd()
	if err != nil {
		return "."
	}
	return dir
}()

func TestMistakesAboutPoliciesAreNamed(t *testing.T) {
	files(t, map[string]string{"bad.yaml": "rulez: []\n", "x.ndjson": "{\n"})
	for _, tt := range []struct {
		args, says string
		usage      bool
	}{
		{"policy lint", "lint what? Give the files of policies", true},
		{"policy lint none.yaml", "open none.yaml", true},
		{"policy test", "test what? Give files of tests", true},
		{"policy test bad.yaml", "open bad_test.yaml", true},
		{"policy diff bad.yaml", "want two policies to compare, got 1", true},
		{"policy diff bad.yaml built-in", `bad.yaml: unknown field "rulez" (line 1); did you mean "rules"?`, false},
		{"simulate", "simulate what? Give the candidate with --policy FILE", true},
		{"simulate --policy built-in --mode on", `--mode "on": want one of off, observe, approve, auto`, true},
		{"simulate --policy built-in --from none", "open none", true},
		{"simulate --policy built-in --from x.ndjson", "x.ndjson line 1: not an event in JSON", false},
		{"simulate --policy built-in --since yesterday", `--since "yesterday": want a span`, true},
		{"explain", "explain what? Give KIND/NAME, or the id of an incident", true},
		{"explain web", `"web" is neither KIND/NAME nor the id of an incident (i-…)`, true},
		{"explain deploy/A_b", `name: "A_b" is not a DNS-1123 subdomain`, true},
		{"explain deploy/web --why-not pray", `why_not: "pray" is not known`, true},
		{"explain deploy/web -o csv", `-o "csv": want one of table, json, yaml`, true},
	} {
		_, err := execute(t, strings.Fields(tt.args)...)
		var usage usageError
		if err == nil || !strings.Contains(err.Error(), tt.says) || errors.As(err, &usage) != tt.usage {
			t.Errorf("%s: %v, want %q", tt.args, err, tt.says)
		}
	}
}

// event is what was stored of a failure of a pod of shop/Deployment/checkout.
func event(t *testing.T, f heal.Failure, at time.Time) string {
	t.Helper()
	data, err := json.Marshal(heal.NewEvent(f, "staging", "watcher", at))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestASimulationOfAFileSaysWhatWouldDiffer(t *testing.T) {
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	var lines []string
	for i, name := range []string{"one", "two", "three"} {
		f := decision(name, noon).Failure
		f.Owner = heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "checkout", UID: "u"}
		f.Fingerprint = heal.MakeFingerprint(f.Type, f.Target, f.Owner, "app", f.Reason)
		at := noon.Add(time.Duration(i) * 20 * time.Minute)
		f.FirstSeen, f.Timestamp = at, heal.Unix{Time: at}
		over := f
		over.ResolvedAt = at.Add(time.Minute)
		lines = append(lines, event(t, over, over.ResolvedAt), event(t, f, at)) // out of order
	}
	files(t, map[string]string{
		"events.ndjson": strings.Join(lines, "\n") + "\n\n",
		"new.yaml":      "name: new\nrules:\n- {name: not twice, match: history.similar > 1, mode: approve}\nstrategy: {pod_failure: {medium: recreate}}\n",
	})
	out, err := execute(t, "simulate", "--policy", "new.yaml", "--from", "events.ndjson")
	if err != nil {
		t.Fatal(err)
	}
	same, err := execute(t, "simulate", "--policy", "built-in", "--from", "events.ndjson", "--exit-code")
	if err != nil || !strings.Contains(same, "no decision differs") {
		t.Errorf("%s, %v", same, err)
	}
	if _, err := execute(t, "simulate", "--policy", "new.yaml", "--from", "events.ndjson", "--exit-code"); !errors.Is(err, errSilent) {
		t.Errorf("--exit-code: %v", err)
	}
	t.Chdir(packageDir)
	golden(t, "simulate-out.txt", out)
}

func TestTheRunningAnalyzerIsAskedAndItsStreamsAreSimulated(t *testing.T) {
	dir, b := system(t)
	api, err := b.Serve("v1.0.0", "Decides.")
	if err != nil {
		t.Fatal(err)
	}
	defer api.Close()
	served := make(chan error, 9)
	ended := make(chan error, 1)
	running := t.Context()
	go func() {
		ended <- analyzer.Run(running, analyzer.Config{Mode: heal.ModeAuto}, analyzer.Deps{Bus: b, Answer: func(e bus.Endpoint) { served <- api.Add(e) }})
	}()
	for range 2 {
		if err := <-served; err != nil {
			t.Fatal(err)
		}
	}
	f := decision("web", time.Now()).Failure
	if err := bus.Failures.Publish(t.Context(), b, f); err != nil {
		t.Fatal(err)
	}
	told := last(t, b, bus.Decisions)

	out, err := execute(t, "explain", "po/web", "-n", "shop", "--why-not", "rollback", "--data-dir", dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"shop/Pod/web: CrashLoopBackOff", told.IncidentID, "why not rollback", "if it was announced now", "protected", "next look"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in\n%s", want, out)
		}
	}
	out, err = execute(t, "explain", told.IncidentID, "-o", "json", "--data-dir", dir)
	var in heal.Insight
	if err != nil || json.Unmarshal([]byte(out), &in) != nil || len(in.Troubles) != 1 {
		t.Errorf("%v in %s", err, out)
	}
	if _, err := execute(t, "explain", "i-none", "--data-dir", dir); err == nil || err.Error() != "nothing is remembered of incident i-none: not found" {
		t.Errorf("an incident that there is not: %v", err)
	}

	out, err = execute(t, "simulate", "--policy", "built-in", "--since", "1h", "--data-dir", dir)
	if err != nil || !strings.Contains(out, "1 announcement and 0 recoveries") || !strings.Contains(out, "no decision differs") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestAnInsightIsReadableAtThreeInTheMorning(t *testing.T) {
	at := time.Date(2026, 11, 22, 3, 0, 0, 0, time.UTC)
	last := decision("checkout-7d9f6c-x2kpl", at).Failure
	last.Description = "container api is in CrashLoopBackOff: 7 restarts, last exit 1\x1b[2J"
	now := decision("checkout-7d9f6c-x2kpl", at)
	now.Strategy, now.Reason = heal.Restart, "Backoff"
	now.Guards = []heal.Verdict{{Name: "protected", Allowed: true, Detail: "namespace shop is none of the 4 protected ones"}, {Name: "backoff", Reason: "Backoff", Detail: "1 failed try: rest for 1m0s, 42s left"}}
	now.Explanation = heal.Explanation{
		Summary: "Do not carry out restart for shop/Pod/checkout-7d9f6c-x2kpl (CrashLoopBackOff, severity medium, 0 similar failures): 1 failed try: rest for 1m0s, 42s left.",
		Steps:   []string{"base severity of pod_failure is medium", "0 similar failures in 1h0m0s: medium", "pod_failure/medium: restart"},
	}
	in := heal.Insight{
		Inquiry: heal.Inquiry{Kind: "Deployment", Namespace: "shop", Name: "checkout", WhyNot: heal.Rollback},
		At:      at, Summary: "shop/Deployment/checkout: CrashLoopBackOff; now: " + now.Explanation.Summary, Mode: heal.ModeAuto,
		Policy: heal.PolicyRef{Name: "default", Revision: "sha256:0123456789abcdef0123456789abcdef"}, Clear: true, Sight: "2 of 2 watchers see clearly",
		Troubles: []heal.Trouble{{
			Object: "shop/Deployment/checkout", Type: heal.PodFailure, Reason: "CrashLoopBackOff", Incident: "i-1", Since: at.Add(-time.Hour), Open: 2, Similar: 1, FailedTries: 1,
			Last: &last, Cause: heal.Cause{Kind: heal.CauseDependency, Confidence: 0.9, Evidence: []string{"shop/Service/db has no ready endpoints"}}, Waits: "shop/Service/db",
			Course: []heal.Deed{
				{DecisionID: "d-1", At: at.Add(-50 * time.Minute), Strategy: heal.Restart, Severity: heal.Medium, Mode: heal.ModeAuto, Reason: "SeverityTable", Acts: true, Ended: at, Outcome: heal.Failed, Result: "NotFixed", Message: "it crashed again"},
				{DecisionID: "d-2", At: at.Add(-time.Minute), Times: 3, Strategy: heal.Restart, Severity: heal.Medium, Mode: heal.ModeAuto, Reason: "Backoff"},
			},
			Now:    &now,
			Ladder: []heal.Rung{{Strategy: heal.Monitor, Why: "the policy asks for it at severity low; this is medium"}, {Strategy: heal.Restart, Chosen: true, Why: "it is chosen; but guard backoff is against it"}},
			Tried:  []heal.Try{{Cause: heal.CauseDependency, Strategy: heal.Restart, Failed: 1}}, NextLook: at.Add(42 * time.Second), NextWhy: "it rests after a try that did not help",
			WhyNot: "it is no strategy for a pod_failure",
		}},
		Followers: []heal.Follower{{Object: "shop/Service/checkout", Reason: "NoReadyEndpoints", Incident: "i-1", Since: at.Add(-50 * time.Minute)}},
	}
	var b strings.Builder
	if err := printInsight(&b, in); err != nil {
		t.Fatal(err)
	}
	golden(t, "explain-out.txt", b.String())
	if strings.Contains(b.String(), "\x1b") {
		t.Error("a terminal would obey it")
	}
}

func TestKindsAreTakenAsKubectlTakesThem(t *testing.T) {
	for text, want := range map[string]string{
		"po": "Pod", "pods": "Pod", "Deployment": "Deployment", "deploy": "Deployment", "sts": "StatefulSet", "no": "Node", "storageclasses": "StorageClass", "hpa": "HorizontalPodAutoscaler", "Widget": "Widget",
	} {
		if got := kindOf(text); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}
