package heal

import "testing"

func TestTheTighterModeWinsAndAnUnknownOneIsOff(t *testing.T) {
	for _, test := range []struct{ a, b, want Mode }{
		{ModeAuto, ModeAuto, ModeAuto},
		{ModeAuto, ModeApprove, ModeApprove},
		{ModeApprove, ModeObserve, ModeObserve},
		{ModeObserve, ModeOff, ModeOff},
		{ModeAuto, "", ModeOff},
		{ModeAuto, "ACT", ModeOff},
		{"Auto", "auto ", ModeOff},
	} {
		if got := test.a.Tighter(test.b); got != test.want {
			t.Errorf("%q.Tighter(%q) = %q, want %q", test.a, test.b, got, test.want)
		}
		if got := test.b.Tighter(test.a); got != test.want {
			t.Errorf("%q.Tighter(%q) = %q, want %q", test.b, test.a, got, test.want)
		}
	}
}

func TestSeverityIsOnlyEverRaised(t *testing.T) {
	for i, s := range Severities {
		for j, other := range Severities {
			if got, want := s.AtLeast(other), Severities[max(i, j)]; got != want {
				t.Errorf("%q.AtLeast(%q) = %q, want %q", s, other, got, want)
			}
		}
		if got := s.AtLeast("grave"); got != s {
			t.Errorf("%q.AtLeast of an unknown severity = %q, want %q", s, got, s)
		}
	}
}

func TestEveryFailureTypeHasTheContractsSeverityAndAction(t *testing.T) {
	want := map[FailureType]struct {
		severity Severity
		action   string
	}{
		NodeFailure:        {Critical, "node_recovery"},
		PodFailure:         {Medium, "pod_recovery"},
		ServiceFailure:     {High, "service_recovery"},
		DeploymentFailure:  {High, "deployment_recovery"},
		ResourceExhaustion: {Medium, "resource_recovery"},
	}
	for _, ft := range FailureTypes {
		if got := ft.BaseSeverity(); got != want[ft].severity {
			t.Errorf("%s: base severity %s, want %s", ft, got, want[ft].severity)
		}
		if got := ft.ActionType(); got != want[ft].action {
			t.Errorf("%s: action type %s, want %s", ft, got, want[ft].action)
		}
	}
	if len(want) != len(FailureTypes) {
		t.Errorf("%d failure types, want %d", len(FailureTypes), len(want))
	}
}

func TestADecisionActsOnlyWithAStrategyAModeAndNoVeto(t *testing.T) {
	veto := []Verdict{{Name: "cooldown", Allowed: true}, {Name: "storm", Allowed: false, Reason: "Storm"}}
	for name, test := range map[string]struct {
		change func(*Decision)
		want   bool
	}{
		"auto":        {func(*Decision) {}, true},
		"approve":     {func(d *Decision) { d.Mode = ModeApprove }, true},
		"observe":     {func(d *Decision) { d.Mode = ModeObserve }, false},
		"off":         {func(d *Decision) { d.Mode = ModeOff }, false},
		"no mode":     {func(d *Decision) { d.Mode = "" }, false},
		"monitor":     {func(d *Decision) { d.Strategy = Monitor }, false},
		"vetoed":      {func(d *Decision) { d.Guards = veto }, false},
		"no guard":    {func(d *Decision) { d.Guards = nil }, true},
		"veto, watch": {func(d *Decision) { d.Guards, d.Strategy = veto, Monitor }, false},
	} {
		d := typicalDecision()
		test.change(&d)
		if got := d.Acts(); got != test.want {
			t.Errorf("%s: Acts() = %t, want %t", name, got, test.want)
		}
	}
}

func TestAFailureAffectsItsOwnerOrElseItself(t *testing.T) {
	f := typicalFailure()
	if got := f.Affected(); got != f.Owner {
		t.Errorf("affected: %s, want %s", got, f.Owner)
	}
	f.Owner = Target{}
	if got := f.Affected(); got != f.Target {
		t.Errorf("affected: %s, want %s", got, f.Target)
	}
}
