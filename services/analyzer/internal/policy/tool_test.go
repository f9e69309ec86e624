package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheDocumentOfAPolicyIsThePolicy(t *testing.T) {
	for _, text := range []string{
		builtin,
		"name: x\n",
		"similar: {thresholds: []}\n",
		"rules: [{name: a, match: 'true', mode: \"off\", budget: {actions: 3, per: 90m}, window: {days: [mon], to: '08:00'}}]\nguards: {storm: {share: 0.1}, maintenance: [{name: m, days: [sun]}]}\n",
	} {
		p := mustParse(t, text)
		again, err := Parse(p.Document())
		if err != nil || again.revision != p.revision {
			t.Errorf("%s\nis %s, and read again %s (%v)", text, p.revision, again.revision, err)
		}
		if changes := Diff(p, again); len(changes) > 0 {
			t.Errorf("it differs from itself: %v", changes)
		}
	}
}

func TestARemarkIsMadeOnWhatHardlyAnybodyMeans(t *testing.T) {
	_, remarks, err := Lint([]byte(`name: odd
similar:
  thresholds:
  - {more_than: 1, at_least: high}
  - {more_than: 3, at_least: medium}
  - {more_than: 0, at_least: critical}
guards:
  maintenance:
  - {name: for ever}
rules:
- {name: a, match: failure.kind == "Pod", mode: auto}
- name: a
  window: {from: "00:00"}
  strategy: rollback
- {name: b, match: failure.kind == "Pod", mode: observe, budget: {actions: 1, per: 1h}}
`))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range remarks {
		got = append(got, r.String())
	}
	want := []string{
		"similar.thresholds[1]: never matters: more than 1 similar failures make it at least high already (line 5)",
		"similar.thresholds[2]: the threshold of more than 1 never matters beside it (line 6)",
		"similar.thresholds[2]: the threshold of more than 3 never matters beside it (line 6)",
		`guards.maintenance[0]: "for ever" is always under way, and everywhere: nothing is ever done (line 9)`,
		"rules[0].mode: auto changes nothing: a rule's mode only ever tightens (line 11)",
		`rules[1].name: "a" is the name of another rule too: decisions do not tell them apart, and they share their budget (line 12)`,
		"rules[1].window: is always (line 13)",
		"rules[1].strategy: rollback is no strategy for node_failure, pod_failure, service_failure, resource_exhaustion, which the rule matches as well: those are only watched (line 14)",
		`rules[2]: never counts: rule "a" before it matches everything (line 15)`,
		"rules[2].budget: is never touched: the rule lets nothing be done (line 15)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, remarks, err := Lint([]byte(builtin)); err != nil || len(remarks) > 0 {
		t.Errorf("the built-in policy: %v, %v", remarks, err)
	}
	if _, _, err := Lint([]byte("rulez: []\n")); err == nil {
		t.Error("a bad document is none")
	}
}

func TestADiffNamesEachField(t *testing.T) {
	a := mustParse(t, "name: a\nrules:\n- {name: one, mode: observe}\n- {name: two, match: 'true', severity: low}\n")
	b := mustParse(t, "name: b\nseverity: {pod_failure: low}\nguards: {give_up: {after: 2}, protected_namespaces: [bank]}\nrules:\n- {name: two, match: 'true', severity: high}\n- {name: three, mode: \"off\"}\n")
	var got []string
	for _, c := range Diff(a, b) {
		got = append(got, c.String())
	}
	want := []string{
		`~ guards.give_up.after: 3 -> 2`,
		`~ guards.protected_namespaces: [] -> ["bank"]`,
		`~ name: a -> b`,
		`~ severity.pod_failure: medium -> low`,
		`- rule "one".mode: observe`,
		`+ rule "three".mode: off`,
		`~ rule "two".severity: low -> high`,
		`~ rules: "one", "two" -> "two", "three"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
