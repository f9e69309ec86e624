package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func budget(allowed, healthy, desired, expected int32) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "db", Generation: 3},
		Status: policyv1.PodDisruptionBudgetStatus{
			ObservedGeneration: 3, DisruptionsAllowed: allowed, CurrentHealthy: healthy, DesiredHealthy: desired, ExpectedPods: expected,
		},
	}
}

var cannotSync = metav1.Condition{
	Type: policyv1.DisruptionAllowedCondition, Status: metav1.ConditionFalse, Reason: policyv1.SyncFailedReason, Message: "no controller",
}

var heldPods = []Held{{Pod: "db-1", Node: "n2", Ready: true}, {Pod: "db-0", Node: "n1", Ready: true}, {Pod: "db-2", Node: "n1"}}

func TestBudgetThatHoldsUpADrainIsFoundWithWhy(t *testing.T) {
	failing := budget(0, 0, 0, 0)
	failing.Status.Conditions = []metav1.Condition{cannotSync}
	tests := []struct {
		name   string
		budget *policyv1.PodDisruptionBudget
		held   []Held
		why    string
		text   string
	}{
		{"never lets one go", budget(0, 3, 3, 3), heldPods, "too_strict", "disruption budget db holds up the drain of n1, n2: it wants 3 of 3 pods to be healthy, and so never lets one go"},
		{"its pods are not healthy", budget(0, 1, 2, 3), heldPods[:1], "pods_unhealthy", "disruption budget db holds up the drain of n2: only 1 of 3 pods are healthy, and 2 must be"},
		{"just as many as must be", budget(0, 2, 2, 3), heldPods[:1], "pods_unhealthy", "disruption budget db holds up the drain of n2: only 2 of 3 pods are healthy, and 2 must be"},
		{"nobody can tell", failing, heldPods[:1], "sync_failed", "disruption budget db holds up the drain of n2: its controller cannot tell how many of its pods are healthy: no controller"},
		{"too strict, on a quiet cluster", budget(0, 3, 3, 3), nil, "", ""},
		{"lets one go", budget(1, 3, 2, 3), heldPods, "", ""},
		{"one is on its way out, and enough are left", budget(0, 3, 2, 3), heldPods, "", ""},
		{"has no pods", budget(0, 0, 1, 0), heldPods, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			why, text := "", ""
			for _, f := range budgetBlocking.Find(tt.budget, Facts{Now: noon, Held: tt.held}) {
				why, text = why+f.Metadata["why"], text+f.Description
			}
			if why != tt.why || text != tt.text {
				t.Errorf("found %q, %q\nwant  %q, %q", why, text, tt.why, tt.text)
			}
		})
	}
}

func TestBlockedDrainIsToldWithItsNumbersAndPods(t *testing.T) {
	want := []Finding{{
		Reason: "DrainBlocked", Hold: 15 * time.Minute,
		Description: "disruption budget db holds up the drain of n1, n2: it wants 3 of 3 pods to be healthy, and so never lets one go",
		Evidence: []heal.Evidence{
			{Path: "status.disruptionsAllowed", Value: "0"},
			{Path: "status.currentHealthy", Value: "3"},
			{Path: "status.desiredHealthy", Value: "3"},
			{Path: "status.expectedPods", Value: "3"},
		},
		Metadata: map[string]string{"why": "too_strict", "held": "3", "nodes": "n1,n2", "pods": "db-1,db-0,db-2"},
	}}
	if diff := cmp.Diff(want, budgetBlocking.Find(budget(0, 3, 3, 3), Facts{Now: noon, Held: heldPods})); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestBudgetThatLetsUnhealthyPodsGoHoldsOnlyHealthyOnes(t *testing.T) {
	b := budget(0, 2, 3, 3)
	always := policyv1.AlwaysAllow
	b.Spec.UnhealthyPodEvictionPolicy = &always
	if got := budgetBlocking.Find(b, Facts{Now: noon, Held: heldPods[2:]}); got != nil {
		t.Errorf("found %+v, want nothing: the pod may go", got)
	}
	if got := budgetBlocking.Find(b, Facts{Now: noon, Held: heldPods}); len(got) != 1 || got[0].Metadata["held"] != "2" {
		t.Errorf("found %+v, want two pods held", got)
	}
}

func TestBudgetThatIsGoneOrOldNewsIsExcused(t *testing.T) {
	gone, old, stuck := budget(0, 3, 3, 3), budget(0, 3, 3, 3), budget(0, 3, 3, 3)
	gone.DeletionTimestamp = &metav1.Time{Time: noon}
	old.Generation++
	stuck.Generation++
	stuck.Status.Conditions = []metav1.Condition{cannotSync}
	for name, tt := range map[string]struct {
		budget *policyv1.PodDisruptionBudget
		want   Excuse
	}{
		"any other is not":                   {budget(0, 3, 3, 3), None},
		"deleted":                            {gone, Leaving},
		"changed, and not looked at yet":     {old, Masked},
		"changed, and looked at without end": {stuck, None},
	} {
		if got := budgetBlocking.Excuse(tt.budget, Facts{Now: noon}); got != tt.want {
			t.Errorf("%s: excuse %v, want %v", name, got, tt.want)
		}
	}
}
