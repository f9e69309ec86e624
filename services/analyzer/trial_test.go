package analyzer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
)

const library = "../../deploy/policies"

// TestTheReadyPoliciesDoWhatTheirTestsSay runs the library as `selfheal policy
// lint` and `test` do.
func TestTheReadyPoliciesDoWhatTheirTestsSay(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(library, "*.yaml"))
	if err != nil || len(files) < 14 {
		t.Fatalf("%d files in %s, %v", len(files), library, err)
	}
	revisions := map[string]string{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if strings.HasSuffix(name, "_test") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			p, remarks, err := LintPolicy(mustRead(t, file))
			if err != nil || len(remarks) > 0 {
				t.Fatalf("%v, %v", err, remarks)
			}
			if p.Ref("").Name != name {
				t.Errorf("its name is %q", p.Ref("").Name)
			}
			if other, twice := revisions[p.Ref("").Revision]; twice {
				t.Errorf("it is the same as %s", other)
			}
			revisions[p.Ref("").Revision] = name
			trial, err := ParseTrial(mustRead(t, filepath.Join(library, name+"_test.yaml")))
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range Try(p, trial) {
				for _, w := range v.Wrong {
					t.Errorf("%s: %s is %s, want %s; %v", v.Name, w.What, w.Got, w.Want, v.Got.Explanation.Steps)
				}
				if err := v.Got.Validate(); err != nil {
					t.Errorf("%s: %v", v.Name, err)
				}
			}
		})
	}
}

// TestThePageListsTheReadyPolicies compares docs/policy.md with what each file
// says in its first line.
func TestThePageListsTheReadyPolicies(t *testing.T) {
	page := string(mustRead(t, "../../docs/policy.md"))
	files, err := filepath.Glob(filepath.Join(library, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if strings.HasSuffix(name, "_test") {
			continue
		}
		about, _, _ := strings.Cut(strings.TrimPrefix(string(mustRead(t, file)), "# "), "\n")
		if row := "| [" + name + "](../deploy/policies/" + name + ".yaml) | " + about + " |\n"; !strings.Contains(page, row) {
			t.Errorf("docs/policy.md does not have the row\n%s", row)
		}
	}
	if rows := strings.Count(page, "(../deploy/policies/"); 2*rows != len(files) {
		t.Errorf("docs/policy.md lists %d policies, there are %d files", rows, len(files))
	}
}

func mustRead(t testing.TB, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestATrialThatFailsSaysWhatIsOtherwise(t *testing.T) {
	p, err := BuiltinPolicy()
	if err != nil {
		t.Fatal(err)
	}
	trial, err := ParseTrial([]byte("tests:\n- name: a crash\n  given: {}\n  want: {strategy: recreate, severity: medium, acts: false}\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Wrong{{"strategy", "restart", "recreate"}, {"acts", "true", "false"}}
	if diff := cmp.Diff(want, Try(p, trial)[0].Wrong); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestABadTrialSaysWhere(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"tests: []\n", "tests: there are none"},
		{"tests:\n- name: a\n  givn: {}\n", `unknown field "givn" (line 3); did you mean "given"?`},
		{"tests:\n- name: a\n  given: {}\n  want: {strategy: restrt}\n", `tests[0].want.strategy: "restrt" is not known here; want one of monitor, restart`},
		{"tests:\n- name: a\n  given: {owner: db}\n  want: {acts: true}\n", `tests[0].given.owner: "db" is not a kind and a name, such as Deployment/checkout (line 3)`},
		{"tests:\n- name: a\n  at: noon\n  given: {}\n  want: {acts: true}\n", `tests[0].at: "noon" is not a time such as "2026-01-05T12:00:00Z" (line 3)`},
		{"tests:\n- name: a\n  given: {}\n  before:\n  - {ago: 1m, times: 3, every: 1m}\n  want: {acts: true}\n", "tests[0].before[0].ago: 1m0s is not before the failure that is given (line 5)"},
		{"tests:\n- name: a\n  given: {name: A_B}\n  want: {acts: true}\n", `tests[0].given.name: "A_B" is not a DNS-1123 subdomain`},
		{"tests:\n- name: a\n  given: {}\n", "tests[0].want: says nothing"},
	} {
		if _, err := ParseTrial([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want %q", tt.text, err, tt.want)
		}
	}
}

// TestAReplayDecidesAsTheAnalyzerDid compares what an analyzer told with what a
// replay of what it was told makes of the same.
func TestAReplayDecidesAsTheAnalyzerDid(t *testing.T) {
	t.Parallel()
	p := newPipeline(t)
	p.analyzer(t, auto, Deps{})
	var records []Recorded
	decide := func(f heal.Failure) heal.Decision {
		t.Helper()
		p.announce(t, f)
		d := p.next(t)
		records = append(records, Recorded{At: d.Expires.Add(-decisionTTL), Failure: &d.Failure})
		return d
	}
	end := func(d heal.Decision, o heal.Outcome) {
		t.Helper()
		p.report(t, d, o)
		p.quiet(t)
		r := heal.Result{Decision: d, Outcome: o, Reason: "Test"}
		records = append(records, Recorded{At: records[len(records)-1].At, Result: &r})
	}
	var told []heal.Decision
	for i, o := range []heal.Outcome{heal.Succeeded, heal.Skipped, heal.Failed, heal.Failed} {
		f := podFailure("checkout", string(rune('a'+i)), 1, time.Now())
		d := decide(f)
		told = append(told, d)
		if d.Acts() {
			end(d, o)
		}
	}
	builtin, err := BuiltinPolicy()
	if err != nil {
		t.Fatal(err)
	}
	replay := NewReplay(ReplayConfig{Policy: builtin})
	var again []heal.Decision
	for _, m := range records {
		if d, ok := replay.Take(m); ok {
			again = append(again, d)
		}
	}
	var got, want []Outline
	for i := range told {
		want = append(want, outline(told[i]))
		got = append(got, outline(again[i]))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-told +replayed)\n%s", diff)
	}
}

func TestAComparisonCountsAndSaysWhy(t *testing.T) {
	builtin, err := BuiltinPolicy()
	if err != nil {
		t.Fatal(err)
	}
	careful, err := ParsePolicy([]byte("name: careful\nrules:\n- {name: shop by hand, match: failure.namespace == \"shop\", mode: approve}\nseverity: {node_failure: low}\n"))
	if err != nil {
		t.Fatal(err)
	}
	pod, node := podFailure("checkout", "e0", 1, noon), nodeFailure("n9", noon)
	decided, _ := NewReplay(ReplayConfig{Policy: builtin}).Take(Recorded{At: noon, Failure: &pod})
	records := []Recorded{
		{At: noon, Failure: &pod}, {At: noon, Failure: &pod}, // it came twice
		{At: noon, Failure: &node},
		{At: noon, Result: &heal.Result{Decision: decided, Outcome: heal.Succeeded}},
	}
	got := Compare(ReplayConfig{Policy: builtin}, ReplayConfig{Policy: careful}, records, 1)
	want := Comparison{
		From: noon, To: noon, Failures: 2, Results: 1,
		Before: Tally{Policy: builtin.Ref(""), Acting: 2, Strategies: map[heal.Strategy]int{"restart": 1, "emergency_replace": 1}, Reasons: map[string]int{"SeverityTable": 2}},
		After:  Tally{Policy: careful.Ref(""), Acting: 1, Strategies: map[heal.Strategy]int{"restart": 1, "monitor": 1}, Reasons: map[string]int{"SeverityTable": 2}},

		Different: 2,
		Differences: []Difference{{
			At: noon, DecisionID: decided.ID, Failure: "shop/Pod/checkout-e0", Reason: "CrashLoopBackOff", Occurrence: 1,
			Before: Outline{"restart", "medium", "auto", "SeverityTable", "pod_failure/medium", "shop/Pod/checkout-e0", true},
			After:  Outline{"restart", "medium", "approve", "SeverityTable", "pod_failure/medium", "shop/Pod/checkout-e0", true},
			Why:    []string{`rule "shop by hand": mode approve`, "mode is approve: done once a person agrees"},
		}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
