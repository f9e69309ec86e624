package analyzer

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// TestWhatPeopleMarkedTightensWhatIsDecided gives a judge failures as a watcher
// tells them of objects with annotations.
func TestWhatPeopleMarkedTightensWhatIsDecided(t *testing.T) {
	type want struct {
		Mode   heal.Mode
		Reason string
		Acts   bool
	}
	tests := []struct {
		name     string
		metadata map[string]string
		mode     heal.Mode // the analyzer's
		want     want
	}{
		{"nothing", nil, heal.ModeAuto, want{heal.ModeAuto, heal.ReasonSeverityTable, true}},
		{"auto, where more is asked for", map[string]string{"mode": "auto"}, heal.ModeApprove, want{heal.ModeApprove, heal.ReasonSeverityTable, true}},
		{"approve", map[string]string{"mode": "approve"}, heal.ModeAuto, want{heal.ModeApprove, heal.ReasonSeverityTable, true}},
		{"approve, where only is observed", map[string]string{"mode": "approve"}, heal.ModeObserve, want{heal.ModeObserve, "ModeObserve", false}},
		{"observe", map[string]string{"mode": "observe"}, heal.ModeAuto, want{heal.ModeObserve, "MarkedObserve", false}},
		{"off", map[string]string{"mode": "off"}, heal.ModeAuto, want{heal.ModeOff, "MarkedOff", false}},
		{"nobody knows what", map[string]string{"mode": "Off!"}, heal.ModeAuto, want{heal.ModeOff, "MarkedOff", false}},
		{"held", map[string]string{"hold_until": noon.Add(time.Hour).Format(time.RFC3339)}, heal.ModeAuto, want{heal.ModeAuto, "Held", false}},
		{"held until a while ago", map[string]string{"hold_until": noon.Add(-time.Hour).Format(time.RFC3339)}, heal.ModeAuto, want{heal.ModeAuto, heal.ReasonSeverityTable, true}},
		{"in Git, where a pod is restarted", map[string]string{"managed_by": "Flux"}, heal.ModeAuto, want{heal.ModeAuto, heal.ReasonSeverityTable, true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := podFailure("checkout", "e0", 1, noon)
			f.Metadata = tt.metadata
			_, made := testJudge(t, tt.mode).decideIn(incident.Group{}, at(f, noon))
			d := made.decision
			if diff := cmp.Diff(want{d.Mode, d.Reason, d.Acts()}, tt.want); diff != "" {
				t.Errorf("(-got +want)\n%s%q", diff, d.Explanation.Steps)
			}
			if err := d.Validate(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestARollBackOfWhatIsInGitIsProposed(t *testing.T) {
	f := workloadFailure("checkout", "ProgressDeadlineExceeded", noon)
	f.Metadata = map[string]string{"managed_by": "Argo CD"}
	_, made := testJudge(t, heal.ModeAuto).decideIn(incident.Group{}, at(f, noon))
	d := made.decision
	if d.Strategy != heal.Rollback || d.Reason != "ManagedByGitOps" || d.Acts() {
		t.Errorf("%s, %s, acts %v", d.Strategy, d.Reason, d.Acts())
	}
	want := "Do not carry out rollback for shop/Deployment/checkout (ProgressDeadlineExceeded, severity high, 0 similar failures): " +
		"shop/Deployment/checkout is managed by Argo CD, which would put its template back: revert its last change there; " +
		"until that is synced, this helps: kubectl rollout undo deployment/checkout -n shop."
	if diff := cmp.Diff(d.Explanation.Summary, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

// TestTheFirstVetoIsTheReasonAndAllAreListed has several guards against it.
func TestTheFirstVetoIsTheReasonAndAllAreListed(t *testing.T) {
	p, err := policy.Parse([]byte("guards: {actions_per_minute: 1, protected_namespaces: [shop]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	j := testJudge(t, heal.ModeAuto)
	j.policy = p
	f := podFailure("checkout", "e0", 1, noon)
	f.Metadata = map[string]string{"mode": "off", heal.MetadataFlapping: "5", "revision": "3", "newest_revision": "4"}
	o := at(f, noon)
	o.acted, o.sight = []time.Time{noon}, heal.Sight{Reason: heal.ReasonBlind, Detail: "nobody sees"}
	_, made := j.decideIn(incident.Group{}, o)
	var vetoes []string
	for _, v := range made.decision.Guards {
		if !v.Allowed {
			vetoes = append(vetoes, v.Reason)
		}
	}
	if diff := cmp.Diff(vetoes, []string{"ProtectedNamespace", "MarkedOff", heal.ReasonBlind, "RolloutUnderWay", "Flapping", "RateLimited"}); diff != "" {
		t.Errorf("vetoes (-got +want)\n%s", diff)
	}
	if made.decision.Reason != vetoes[0] {
		t.Errorf("reason %s, want that of the first veto", made.decision.Reason)
	}
	for _, v := range made.decision.Guards {
		told := slices.ContainsFunc(made.decision.Explanation.Steps, func(s string) bool { return s == "guard "+v.Name+" vetoes restart ("+v.Reason+"): "+v.Detail })
		if told == v.Allowed {
			t.Errorf("guard %s (allowed %v) is told of in the steps: %v", v.Name, v.Allowed, told)
		}
	}
}
