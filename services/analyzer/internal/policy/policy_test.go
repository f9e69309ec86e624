package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/selfheal/selfheal/pkg/heal"
)

func mustBuiltin(t testing.TB) Policy {
	t.Helper()
	p, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestTheBuiltinStrategiesAreTheContracts(t *testing.T) {
	p := mustBuiltin(t)
	want := map[string]heal.Strategy{
		"node_failure/low": "monitor", "node_failure/medium": "restart", "node_failure/high": "drain_and_replace", "node_failure/critical": "emergency_replace",
		"pod_failure/low": "monitor", "pod_failure/medium": "restart", "pod_failure/high": "recreate", "pod_failure/critical": "scale_and_replace",
		"service_failure/low": "monitor", "service_failure/medium": "restart", "service_failure/high": "failover", "service_failure/critical": "emergency_failover",
		"deployment_failure/low": "monitor", "deployment_failure/medium": "restart", "deployment_failure/high": "rollback", "deployment_failure/critical": "rollback",
		"resource_exhaustion/low": "monitor", "resource_exhaustion/medium": "resize", "resource_exhaustion/high": "relieve", "resource_exhaustion/critical": "relieve",
	}
	got := map[string]heal.Strategy{}
	for _, ty := range heal.FailureTypes {
		for _, s := range heal.Severities {
			strategy, rule := p.Strategy(ty, s)
			got[rule] = strategy
		}
	}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestTheBuiltinBaseSeveritiesAreTheContracts(t *testing.T) {
	p := mustBuiltin(t)
	for _, ty := range heal.FailureTypes {
		base, severity := p.Severity(ty, 0)
		if base != ty.BaseSeverity() || severity != base {
			t.Errorf("%s: base %s, alone %s; want %s for both", ty, base, severity, ty.BaseSeverity())
		}
	}
}

// TestARecordWeighsLittleHoweverOftenItComes keeps what is not broken from
// waking anybody; every other failure weighs as the contract's tables say.
func TestARecordWeighsLittleHoweverOftenItComes(t *testing.T) {
	p := mustBuiltin(t)
	var records []string
	for s, r := range remedies {
		f := heal.Failure{Type: s.of, Reason: s.reason}
		for n := range 6 {
			base, severity, instead := p.SeverityOf(f, n)
			wantBase, want := p.Severity(s.of, n)
			wantInstead := heal.Severity("")
			if r.record {
				wantBase, want, wantInstead = heal.Low, heal.Low, wantBase
			}
			if base != wantBase || severity != want || instead != wantInstead {
				t.Errorf("%v with %d similar: %s, %s, instead of %q; want %s, %s, %q", s, n, base, severity, instead, wantBase, want, wantInstead)
			}
		}
		if r.record {
			records = append(records, s.reason)
			if len(r.may) > 0 {
				t.Errorf("%v is a record, but may be acted upon", s)
			}
		}
	}
	slices.Sort(records)
	if diff := cmp.Diff(records, []string{"ForgottenCordon", "KubeletVersionSkew", "NodeRebooted"}); diff != "" {
		t.Errorf("records (-got +want)\n%s", diff)
	}
}

func TestSimilarFailuresRaiseTheSeverity(t *testing.T) {
	p := mustBuiltin(t)
	tests := []struct {
		of      heal.FailureType
		similar int
		want    heal.Severity
	}{
		{heal.PodFailure, 0, heal.Medium},
		{heal.PodFailure, 1, heal.Medium},
		{heal.PodFailure, 2, heal.High},
		{heal.PodFailure, 3, heal.High},
		{heal.PodFailure, 4, heal.Critical},
		{heal.PodFailure, 4096, heal.Critical},
		{heal.ServiceFailure, 2, heal.High},
		{heal.ServiceFailure, 4, heal.Critical},
		{heal.NodeFailure, 2, heal.Critical}, // never lowered
		{heal.ResourceExhaustion, 1, heal.Medium},
		{heal.DeploymentFailure, 0, heal.High},
	}
	for _, tt := range tests {
		if _, got := p.Severity(tt.of, tt.similar); got != tt.want {
			t.Errorf("%s with %d similar: %s, want %s", tt.of, tt.similar, got, tt.want)
		}
	}
}

func TestSeverityNeverFallsBelowTheBaseOrWithMoreSimilarFailures(t *testing.T) {
	p := mustBuiltin(t)
	rapid.Check(t, func(t *rapid.T) {
		ty := rapid.SampledFrom(heal.FailureTypes).Draw(t, "type")
		n := rapid.IntRange(0, 100).Draw(t, "similar")
		base, fewer := p.Severity(ty, n)
		_, more := p.Severity(ty, n+1)
		if fewer.AtLeast(base) != fewer || more.AtLeast(fewer) != more {
			t.Errorf("base %s, %d similar %s, %d similar %s", base, n, fewer, n+1, more)
		}
	})
}

func TestAPolicyNeedsOnlyWhatItChanges(t *testing.T) {
	p, err := Parse([]byte(`
name: night shift
similar:
  window: 30m
  thresholds: [{more_than: 0, at_least: critical}]
severity:
  pod_failure: low
strategy:
  pod_failure: {critical: recreate}
guards:
  give_up: {after: 2}
`))
	if err != nil {
		t.Fatal(err)
	}
	base := mustBuiltin(t)
	if p.Window() != 30*time.Minute {
		t.Errorf("window %s", p.Window())
	}
	if b, s := p.Severity(heal.PodFailure, 1); b != heal.Low || s != heal.Critical {
		t.Errorf("severity of a pod: base %s, with one similar %s", b, s)
	}
	if b, _ := p.Severity(heal.NodeFailure, 0); b != heal.Critical {
		t.Errorf("severity of a node: %s", b)
	}
	if s, _ := p.Strategy(heal.PodFailure, heal.Critical); s != heal.Recreate {
		t.Errorf("pod_failure/critical: %s", s)
	}
	if s, _ := p.Strategy(heal.PodFailure, heal.Medium); s != heal.Restart {
		t.Errorf("pod_failure/medium: %s", s)
	}
	want := base.Guards()
	want.GiveUp.After = 2
	if diff := cmp.Diff(p.Guards(), want); diff != "" {
		t.Errorf("guards (-got +want)\n%s", diff)
	}
	if ref := p.Ref("r"); ref.Name != "night shift" || ref.Revision == base.Ref("").Revision {
		t.Errorf("ref %+v", ref)
	}
	if diff := cmp.Diff(mustBuiltin(t).doc, base.doc); diff != "" {
		t.Errorf("the built-in policy changed\n%s", diff)
	}
}

func TestAPolicyMayDoWithoutEscalation(t *testing.T) {
	p, err := Parse([]byte("similar: {thresholds: []}"))
	if err != nil {
		t.Fatal(err)
	}
	if _, s := p.Severity(heal.PodFailure, 100); s != heal.Medium {
		t.Errorf("severity %s", s)
	}
	if p, err = Parse([]byte("similar: {window: 30m}")); err != nil {
		t.Fatal(err)
	}
	if _, s := p.Severity(heal.PodFailure, 100); s != heal.Critical {
		t.Errorf("severity with the built-in thresholds %s", s)
	}
}

func TestTheRevisionIsOfWhatThePolicySaysNotOfHowItIsWritten(t *testing.T) {
	one, err := Parse([]byte("name: a\nsimilar: {window: 3600}\n"))
	if err != nil {
		t.Fatal(err)
	}
	same, err := Parse([]byte("# with a comment\nsimilar:\n  window: 1h\nname: a"))
	if err != nil {
		t.Fatal(err)
	}
	other, err := Parse([]byte("name: a\nsimilar: {window: 3601}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if one.Ref("").Revision != same.Ref("").Revision {
		t.Errorf("%s is not %s", one.Ref("").Revision, same.Ref("").Revision)
	}
	if one.Ref("").Revision == other.Ref("").Revision {
		t.Error("another window has the same revision")
	}
	if r := one.Ref("").Revision; !strings.HasPrefix(r, "sha256:") || len(r) != len("sha256:")+64 {
		t.Errorf("revision %q", r)
	}
}

func TestABadPolicyIsRefusedByNameOfTheField(t *testing.T) {
	tests := []struct {
		name, document string
		want           []string // each part of the error
	}{
		{"empty", " \n", []string{"the document is empty"}},
		{"two documents", "name: a\n---\nname: b\n", []string{"more than one YAML document"}},
		{"not YAML", "name: [a\n", []string{"line 1"}},
		{"not a mapping", "- name", []string{"want a mapping"}},
		{"a key twice", "name: a\nname: b\n", []string{`"name"`, "line 2"}},
		{"unknown field", "sevrity: {}\n", []string{`unknown field "sevrity"`, `did you mean "severity"?`}},
		{"unknown field below", "guards: {giveup: {after: 3}}\n", []string{`unknown field "giveup"`, `did you mean "give_up"?`}},
		{"wrong kind of value", "similar: {thresholds: 3}\n", []string{"similar.thresholds", "is number", "want a list"}},
		{"fraction", "guards: {give_up: {after: 2.5}}\n", []string{"guards.give_up.after", "want a whole number"}},
		{"unknown type", "severity: {pod_falure: high}\n", []string{`severity: "pod_falure"`, `did you mean "pod_failure"?`}},
		{"unknown severity", "severity: {pod_failure: hihg}\n", []string{`severity.pod_failure: "hihg"`, `did you mean "high"?`}},
		{"unknown row", "strategy: {pods: {low: monitor}}\n", []string{`strategy: "pods"`, "want one of node_failure, pod_failure"}},
		{"unknown column", "strategy: {pod_failure: {hgh: monitor}}\n", []string{`strategy.pod_failure: "hgh"`, `did you mean "high"?`}},
		{"unknown strategy", "strategy: {pod_failure: {high: recreat}}\n", []string{`strategy.pod_failure.high: "recreat"`, `did you mean "recreate"?`}},
		{"strategy of another kind", "strategy: {pod_failure: {critical: drain_and_replace}}\n", []string{`strategy.pod_failure.critical: "drain_and_replace" is not known here`, "want one of monitor, restart, recreate, scale_and_replace"}},
		{"unknown threshold", "similar: {thresholds: [{more_than: 1, at_least: hi}]}\n", []string{`similar.thresholds[0].at_least: "hi"`}},
		{"half a threshold", "similar: {thresholds: [{more_than: 1}]}\n", []string{`similar.thresholds[0].at_least: ""`}},
		{"negative threshold", "similar: {thresholds: [{more_than: -1, at_least: high}]}\n", []string{"similar.thresholds[0].more_than: -1 is out of bounds; want 0 to 1000"}},
		{"not a duration", "similar: {window: soon}\n", []string{"soon", "is not a duration"}},
		{"window too long", "similar: {window: 25h}\n", []string{"similar.window: 25h0m0s is out of bounds; want 1m0s to 24h0m0s"}},
		{"no limit", "guards: {actions_per_minute: 0}\n", []string{"guards.actions_per_minute: 0 is out of bounds; want 1 to 3000"}},
		{"backoff that shrinks", "guards: {backoff: {first: 60, longest: 30}}\n", []string{"guards.backoff.longest: 30s is out of bounds; want 1m0s to 24h0m0s"}},
		{"not a namespace", "guards: {protected_namespaces: [shop, Shop_]}\n", []string{`guards.protected_namespaces[1]: "Shop_" is not the name of a namespace`}},
		{"no name", "name: ''\n", []string{"name:"}},
		{"several faults", "name: ''\nseverity: {pod_failure: x}\n", []string{"name:", "severity.pod_failure:"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse([]byte(tt.document))
			if err == nil {
				t.Fatal("accepted")
			}
			for _, part := range tt.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(builtin))
	f.Add([]byte("similar: {window: 30m, thresholds: [{more_than: 0, at_least: low}]}"))
	f.Add([]byte("strategy: {x: {y: z}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			return
		}
		for _, ty := range heal.FailureTypes {
			for _, s := range heal.Severities {
				if strategy, _ := p.Strategy(ty, s); strategy == "" {
					t.Errorf("%s/%s has no strategy", ty, s)
				}
			}
		}
	})
}

func TestDurationsAreSecondsOrHaveAUnit(t *testing.T) {
	tests := []struct {
		text string
		want Duration
	}{
		{"30", Duration(30 * time.Second)},
		{`"30"`, Duration(30 * time.Second)},
		{`"30s"`, Duration(30 * time.Second)},
		{`"1h30m"`, Duration(90 * time.Minute)},
	}
	for _, tt := range tests {
		var got Duration
		if err := got.UnmarshalJSON([]byte(tt.text)); err != nil || got != tt.want {
			t.Errorf("%s: %s, %v; want %s", tt.text, got, err, tt.want)
		}
	}
}

func TestBackoffDoublesUpToTheLongest(t *testing.T) {
	b := mustBuiltin(t).Guards().Backoff
	var got []time.Duration
	for n := 1; n <= 7; n++ {
		got = append(got, b.After(n))
	}
	want := []time.Duration{60 * time.Second, 120 * time.Second, 240 * time.Second, 480 * time.Second, 600 * time.Second, 600 * time.Second, 600 * time.Second}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestWithNothingKnownEveryStrategyIsTheTables(t *testing.T) {
	for _, s := range heal.Strategies {
		if diff := cmp.Diff(Refine(Case{}, s), Choice{Strategy: s, Reason: heal.ReasonSeverityTable}); diff != "" {
			t.Errorf("%s (-got +want)\n%s", s, diff)
		}
	}
}

func TestAnExplanationTellsHowTheDecisionCameAbout(t *testing.T) {
	decision := func(change func(*heal.Decision)) heal.Decision {
		d := heal.Decision{
			Type: heal.PodFailure, Severity: heal.High, BaseSeverity: heal.Medium, SimilarFailures: 2,
			Strategy: heal.Recreate, Mode: heal.ModeAuto, Cause: heal.Cause{Kind: heal.CauseUnknown},
			Target:  heal.Target{Kind: "Pod", Namespace: "shop", Name: "checkout-x2kpl"},
			Policy:  heal.PolicyRef{Rule: "pod_failure/high"},
			Guards:  []heal.Verdict{{Name: "protected", Allowed: true}},
			Failure: heal.Failure{Reason: "CrashLoopBackOff"},
		}
		change(&d)
		return d
	}
	tests := []struct {
		name    string
		account Account
		want    heal.Explanation
	}{
		{
			name:    "to be carried out",
			account: Account{Decision: decision(func(*heal.Decision) {}), Table: heal.Recreate},
			want: heal.Explanation{
				Summary: "Carry out recreate for shop/Pod/checkout-x2kpl (CrashLoopBackOff, severity high, 2 similar failures).",
				Steps:   []string{"base severity of pod_failure is medium", "2 similar failures in 1h0m0s: high", "pod_failure/high: recreate"},
			},
		},
		{
			name: "vetoed",
			account: Account{Table: heal.Recreate, Decision: decision(func(d *heal.Decision) {
				d.Guards = append(d.Guards, heal.Verdict{Name: "backoff", Reason: "Backoff", Detail: "1 failed try: rest for 1m0s, 42s left"})
			})},
			want: heal.Explanation{
				Summary: "Do not carry out recreate for shop/Pod/checkout-x2kpl (CrashLoopBackOff, severity high, 2 similar failures): 1 failed try: rest for 1m0s, 42s left.",
				Steps: []string{
					"base severity of pod_failure is medium", "2 similar failures in 1h0m0s: high", "pod_failure/high: recreate",
					"guard backoff vetoes recreate (Backoff): 1 failed try: rest for 1m0s, 42s left",
				},
			},
		},
		{
			name:    "in mode observe",
			account: Account{Table: heal.Recreate, Decision: decision(func(d *heal.Decision) { d.Mode = heal.ModeObserve; d.SimilarFailures = 1 })},
			want: heal.Explanation{
				Summary: "Would carry out recreate for shop/Pod/checkout-x2kpl (CrashLoopBackOff, severity high, 1 similar failure), but the mode is observe.",
				Steps:   []string{"base severity of pod_failure is medium", "1 similar failure in 1h0m0s: high", "pod_failure/high: recreate", "mode is observe: nothing is done"},
			},
		},
		{
			name: "in mode approve, with a cause, refined, and more similar ones than can be counted",
			account: Account{
				Table: heal.EmergencyReplace, Refined: []string{"no proof that the node is dead: drain_and_replace instead of emergency_replace"}, AtLeast: true,
				Decision: decision(func(d *heal.Decision) {
					d.Mode, d.Strategy, d.SimilarFailures = heal.ModeApprove, heal.DrainAndReplace, 4096
					d.Cause = heal.Cause{Kind: heal.CauseNode, Confidence: 0.75}
				}),
			},
			want: heal.Explanation{
				Summary: "Carry out drain_and_replace for shop/Pod/checkout-x2kpl (CrashLoopBackOff, severity high, at least 4096 similar failures) once a person agrees.",
				Steps: []string{
					"base severity of pod_failure is medium", "at least 4096 similar failures in 1h0m0s: high", "cause is node (confidence 0.75)",
					"pod_failure/high: emergency_replace", "no proof that the node is dead: drain_and_replace instead of emergency_replace",
					"mode is approve: done once a person agrees",
				},
			},
		},
		{
			name:    "held back",
			account: Account{Held: "a recovery is under way", Decision: decision(func(d *heal.Decision) { d.Strategy = heal.Monitor })},
			want: heal.Explanation{
				Summary: "Only watch shop/Pod/checkout-x2kpl (CrashLoopBackOff, severity high, 2 similar failures): a recovery is under way.",
				Steps:   []string{"base severity of pod_failure is medium", "2 similar failures in 1h0m0s: high", "a recovery is under way: monitor"},
			},
		},
		{
			name:    "watched by the policy's wish, with hostile text",
			account: Account{Table: heal.Monitor, Decision: decision(func(d *heal.Decision) { d.Strategy = heal.Monitor; d.Failure.Reason = "a\n\u202eb" })},
			want: heal.Explanation{
				Summary: "Only watch shop/Pod/checkout-x2kpl (a b, severity high, 2 similar failures): the policy asks for no more.",
				Steps:   []string{"base severity of pod_failure is medium", "2 similar failures in 1h0m0s: high", "pod_failure/high: monitor"},
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.account.Window = time.Hour
			if diff := cmp.Diff(Explain(tt.account), tt.want); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}
