package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/selfheal/selfheal/pkg/heal"
)

func mustParse(t testing.TB, text string) Policy {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func aMatter() Matter {
	return Matter{
		Failure: heal.Failure{
			Type: heal.PodFailure, Reason: "CrashLoopBackOff", Namespace: "shop", Occurrence: 2,
			Target: heal.Target{Kind: "Pod", Namespace: "shop", Name: "checkout-x2kpl"}, Owner: heal.Target{Kind: "Deployment", Namespace: "shop", Name: "checkout"},
			Node: "n1", FirstSeen: sunday.Add(-7 * time.Minute), Metadata: map[string]string{"exit_code": "1", "workload_available": "4", "revision": "7", "newest_revision": "8"},
		},
		Node: Node{Owners: 3}, Workload: Workload{Failing: 2},
		Severity: heal.Medium, Similar: 2, Failed: 1, Cause: heal.Cause{Kind: heal.CauseNode, Confidence: 0.7, Evidence: []string{"so it seems"}},
		Now: sunday,
	}
}

var sunday = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestWhichRuleCounts(t *testing.T) {
	tests := []struct {
		match string
		want  bool
	}{
		{`failure.namespace == "shop"`, true},
		{`failure.namespace == "bank"`, false},
		{`failure.type == "pod_failure" && failure.kind == "Pod" && failure.owner_kind == "Deployment"`, true},
		{`failure.reason in ["CrashLoopBackOff", "OOMKilled"] && failure.severity == "medium"`, true},
		{`failure.name.startsWith("checkout-") && failure.owner_name == "checkout" && failure.node == "n1"`, true},
		{`failure.occurrence > 1 && failure.age > duration("5m") && failure.age < duration("8m")`, true},
		{`failure.metadata["exit_code"] == "1"`, true},
		{`"pull_error" in failure.metadata`, false},
		{`history.similar == 2 && history.failed == 1`, true},
		{`cause.kind == "node" && cause.confidence > 0.6 && cause.evidence.exists(e, e.contains("seems"))`, true},
		{`node.name == "n1" && !node.failing && node.failing_owners == 3 && node.nodes == -1`, true},
		{`workload.kind == "Deployment" && workload.name == "checkout" && workload.failing_pods == 2 && workload.available == 4 && workload.updated == -1`, true},
		{`workload.revision != workload.newest_revision`, true},
		{`time.getHours("Europe/Berlin") == 13 && time.getDayOfWeek("Europe/Berlin") == 0`, true},
		{`time < timestamp("2026-01-01T00:00:00Z")`, false},
	}
	for _, tt := range tests {
		t.Run(tt.match, func(t *testing.T) {
			p := mustParse(t, fmt.Sprintf("rules: [{name: r, match: %q, severity: low}]\n", tt.match))
			if _, got := p.Ruling(aMatter()); got != tt.want {
				t.Errorf("matches: %v, want %v", got, tt.want)
			}
		})
	}
}

func TestTheFirstRuleThatMatchesCounts(t *testing.T) {
	p := mustParse(t, `
rules:
- {name: elsewhere, match: failure.namespace == "bank", severity: low}
- {name: at night, window: {from: "22:00", to: "06:00"}, severity: critical}
- {name: here, match: failure.namespace == "shop", severity: high, strategy: recreate, mode: approve}
- {name: everything, mode: observe}
`)
	got, _ := p.Ruling(aMatter())
	if want := (Rule{Name: "here", Match: `failure.namespace == "shop"`, Severity: heal.High, Strategy: heal.Recreate, Mode: heal.ModeApprove}); got.Rule != want {
		t.Errorf("%+v, want %+v", got.Rule, want)
	}
	night := aMatter()
	night.Now = sunday.Add(11 * time.Hour)
	if got, _ := p.Ruling(night); got.Name != "at night" {
		t.Errorf("at night it is %q", got.Name)
	}
	other := aMatter()
	other.Failure.Target.Namespace = "office"
	if got, _ := p.Ruling(other); got.Name != "everything" {
		t.Errorf("elsewhere it is %q", got.Name)
	}
}

func TestARuleThatCannotBeEvaluatedOnlyMakesUsCareful(t *testing.T) {
	p := mustParse(t, `
rules:
- {name: bold, match: 'failure.metadata["nothing"] == "1"', strategy: recreate}
- {name: careful, match: 'failure.metadata["nothing"] == "1"', mode: observe}
`)
	got, found := p.Ruling(aMatter())
	if !found || got.Name != "careful" || !strings.Contains(got.Note, "could not be evaluated") {
		t.Errorf("%q, %q", got.Name, got.Note)
	}
}

func TestBadRulesSayWhereAndWhatWasMeant(t *testing.T) {
	tests := []struct {
		name string
		text string
		want []string // each part of the error
	}{
		{"unknown field", "name: x\nrules:\n- name: a\n  mach: 'true'\n  mode: observe\n", []string{`unknown field "mach" (line 4); did you mean "match"?`}},
		{"field of a window", "rules:\n- name: a\n  mode: observe\n  window:\n    form: \"10:00\"\n", []string{`unknown field "form" (line 5); did you mean "from"?`}},
		{"unknown word", "rules:\n- name: a\n  mode: observe\n  match: failure.namspace == \"a\"\n", []string{"rules[0].match: column 8: undefined field 'namspace'", `did you mean "namespace"?`, "(line 4)"}},
		{"unknown variable", "rules:\n- name: a\n  mode: observe\n  match: failur.name == \"a\"\n", []string{"undeclared reference to 'failur'", `did you mean "failure"?`}},
		{"no CEL", "rules:\n- {name: a, mode: observe, match: 'a =='}\n", []string{"rules[0].match: column", "(line 2)"}},
		{"neither true nor false", "rules:\n- {name: a, mode: observe, match: failure.name}\n", []string{"rules[0].match: is string; want true or false (line 2)"}},
		{"a comparison of apples", "rules:\n- {name: a, mode: observe, match: failure.name == 3}\n", []string{"rules[0].match: column"}},
		{"says nothing", "rules:\n- {name: a}\n", []string{"rules[0]: says nothing; want a severity, a strategy, a mode or a budget (line 2)"}},
		{"no name", "rules:\n- {mode: observe}\n", []string{"rules[0].name: \"\" is not 1 to 64 printable characters (line 2)"}},
		{"unknown mode", "rules:\n- name: a\n  mode: watch\n", []string{`rules[0].mode: "watch" is not known here`, "(line 3)"}},
		{"unknown strategy", "rules:\n- {name: a, strategy: recreat}\n", []string{`rules[0].strategy: "recreat" is not known here`, `did you mean "recreate"?`}},
		{"no budget", "rules:\n- name: a\n  budget: {actions: 0, per: 1s}\n", []string{"rules[0].budget.actions: 0 is out of bounds; want 1 to 1000 (mode observe is for none) (line 3)", "rules[0].budget.per: 1s is out of bounds; want 1m0s to 168h0m0s (line 3)"}},
		{"field of a budget", "rules:\n- {name: a, budget: {action: 1, per: 1h}}\n", []string{`unknown field "action" (line 2); did you mean "actions"?`}},
		{"unknown day", "rules:\n- {name: a, mode: observe, window: {days: [monday]}}\n", []string{`rules[0].window.days[0]: "monday" is not known here`, `did you mean "mon"?`}},
		{"unknown time", "rules:\n- {name: a, mode: observe, window: {from: noon}}\n", []string{`rules[0].window.from: "noon" is not a time of the day; want one such as "22:30"`}},
		{"unknown zone", "rules:\n- {name: a, mode: observe, window: {zone: Berlin}}\n", []string{`rules[0].window.zone: "Berlin" is not a time zone; want an IANA name such as "Europe/Berlin"`}},
		{"a window that never is", "rules:\n- {name: a, mode: observe, window: {from: \"10:00\", to: \"10:00\"}}\n", []string{"would never be"}},
		{"a storm that never is", "guards:\n  storm: {share: 0.9}\n", []string{"guards.storm.share: 0.9 is out of bounds; want 0 to 0.5 (line 2)"}},
		{"maintenance without a name", "guards:\n  maintenance:\n  - {from: \"10:00\"}\n", []string{"guards.maintenance[0].name", "(line 3)"}},
		{"one that was there before", "severity:\n  pod_failure: hihg\n", []string{`severity.pod_failure: "hihg" is not known here`, `did you mean "high"?`, "(line 2)"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.text))
			if err == nil {
				t.Fatal("it was taken")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %q", err, part)
				}
			}
		})
	}
}

func TestAWindowIsOfTheClockOfItsPlace(t *testing.T) {
	night := Window{Days: []string{"sat"}, From: "22:00", To: "06:00", Zone: "Europe/Berlin"}
	tests := []struct {
		name string
		w    Window
		at   string
		want bool
	}{
		{"always", Window{}, "2026-11-22T12:00:00Z", true},
		{"on its day", Window{Days: []string{"sun"}}, "2026-11-22T12:00:00Z", true},
		{"on another day", Window{Days: []string{"mon"}}, "2026-11-22T12:00:00Z", false},
		{"from is in it", Window{From: "12:00", To: "13:00"}, "2026-11-22T12:00:00Z", true},
		{"to is not", Window{From: "11:00", To: "12:00"}, "2026-11-22T12:00:00Z", false},
		{"the night begins", night, "2026-11-21T21:00:00Z", true}, // 22:00 in Berlin
		{"just before the night", night, "2026-11-21T20:59:00Z", false},
		{"the night goes on into the next day", night, "2026-11-22T04:59:00Z", true},
		{"the night is over", night, "2026-11-22T05:00:00Z", false},
		{"the night of another day", night, "2026-11-22T21:00:00Z", false},
		{"in summer, by the same clock", Window{From: "22:00", To: "23:00", Zone: "Europe/Berlin"}, "2026-07-04T20:30:00Z", true},
		{"in winter, by the same clock", Window{From: "22:00", To: "23:00", Zone: "Europe/Berlin"}, "2026-12-04T20:30:00Z", false},
		{"to the end of the day", Window{From: "23:00"}, "2026-11-22T23:59:00Z", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			at, err := time.Parse(time.RFC3339, tt.at)
			if err != nil {
				t.Fatal(err)
			}
			if got := tt.w.Contains(at); got != tt.want {
				t.Errorf("%s contains %s: %v, want %v", tt.w, tt.at, got, tt.want)
			}
		})
	}
}

// TestNoDocumentPanics reads anything.
func TestNoDocumentPanics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.String(),
			rapid.Custom(func(t *rapid.T) string {
				return fmt.Sprintf("rules: [{name: %q, match: %q, mode: %q}]", rapid.String().Draw(t, "name"), rapid.String().Draw(t, "match"), rapid.String().Draw(t, "mode"))
			}),
		).Draw(t, "document")
		p, err := Parse([]byte(text))
		if err == nil {
			p.Ruling(aMatter())
		}
	})
}

func TestTheRevisionNamesTheRulesToo(t *testing.T) {
	one := mustParse(t, "rules: [{name: a, mode: observe}]\n").Ref("").Revision
	two := mustParse(t, "rules: [{name: a, mode: approve}]\n").Ref("").Revision
	if one == two {
		t.Error("two policies have one revision")
	}
}

func TestAStrategyOfARuleMustFitTheType(t *testing.T) {
	f := failureLike(symptom{heal.PodFailure, "CrashLoopBackOff"}, nil)
	got := Refine(Case{Failure: f, Ruled: true}, heal.DrainAndReplace)
	want := Choice{Strategy: heal.Monitor, Reason: "RuleDoesNotFit", Steps: []string{"drain_and_replace is no strategy for a pod_failure: monitor instead of drain_and_replace"}}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	cause := heal.Cause{Kind: heal.CauseRollout, Confidence: 0.9, Evidence: []string{"so it seems"}}
	if got := Refine(Case{Failure: f, Ruled: true, Cause: cause}, heal.Recreate); got.Strategy != heal.Recreate {
		t.Errorf("a cause overrules a rule: %s", got.Strategy)
	}
}

func BenchmarkRuling(b *testing.B) {
	p := mustParse(b, `
rules:
- {name: a, match: failure.namespace == "bank" && history.similar > 3, severity: low}
- {name: b, match: 'failure.reason in ["OOMKilled"] || cause.kind == "registry"', mode: approve}
- {name: c, match: failure.name.startsWith("checkout-"), severity: high}
`)
	m := aMatter()
	b.ReportAllocs()
	for b.Loop() {
		p.Ruling(m)
	}
}
