package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// unobservedOf has d judge an object of generation 4, of which so much has
// been observed.
func unobservedOf[T metav1.Object](t *testing.T, kind string, d Detector[T], make func(metav1.ObjectMeta, int64) T) {
	t.Helper()
	want := []Finding{{
		Reason: "GenerationNotObserved", Hold: 5 * time.Minute,
		Description: "the latest change of " + kind + " web is not taken in: its controller has seen generation 3 of 4",
		Evidence:    []heal.Evidence{{Path: "status.observedGeneration", Value: "3"}, {Path: "metadata.generation", Value: "4"}},
		Metadata:    map[string]string{"generation": "4", "observed_generation": "3"},
	}}
	meta := metav1.ObjectMeta{Name: "web", Generation: 4}
	if diff := cmp.Diff(want, d.Find(make(meta, 3), Facts{Now: noon})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", d.Name, diff)
	}
	if got := d.Find(make(meta, 4), Facts{Now: noon}); got != nil {
		t.Errorf("%s: found %+v of one that has been taken in", d.Name, got)
	}
	if got := d.Excuse(make(meta, 3), Facts{Now: noon}); got != None {
		t.Errorf("%s: excuse %v, want %v", d.Name, got, None)
	}
	meta.DeletionTimestamp = &metav1.Time{Time: noon}
	if got := d.Excuse(make(meta, 3), Facts{Now: noon}); got != Leaving {
		t.Errorf("%s: excuse %v of one that is deleted, want %v", d.Name, got, Leaving)
	}
}

func TestWorkloadWhoseChangeNobodyTakesInIsFound(t *testing.T) {
	unobservedOf(t, "deployment", deploymentUnobserved, func(m metav1.ObjectMeta, n int64) *appsv1.Deployment {
		return &appsv1.Deployment{ObjectMeta: m, Status: appsv1.DeploymentStatus{ObservedGeneration: n}}
	})
	unobservedOf(t, "stateful set", statefulSetUnobserved, func(m metav1.ObjectMeta, n int64) *appsv1.StatefulSet {
		return &appsv1.StatefulSet{ObjectMeta: m, Status: appsv1.StatefulSetStatus{ObservedGeneration: n}}
	})
	unobservedOf(t, "daemon set", daemonSetUnobserved, func(m metav1.ObjectMeta, n int64) *appsv1.DaemonSet {
		return &appsv1.DaemonSet{ObjectMeta: m, Status: appsv1.DaemonSetStatus{ObservedGeneration: n}}
	})
	unobservedOf(t, "budget", budgetUnobserved, func(m metav1.ObjectMeta, n int64) *policyv1.PodDisruptionBudget {
		return &policyv1.PodDisruptionBudget{ObjectMeta: m, Status: policyv1.PodDisruptionBudgetStatus{ObservedGeneration: n}}
	})
}

func TestBudgetThatItsControllerCannotCountWasLookedAt(t *testing.T) {
	b := budget(0, 0, 0, 0)
	b.Generation = 9
	b.Status.Conditions = []metav1.Condition{cannotSync}
	if got := budgetUnobserved.Find(b, Facts{Now: noon}); got != nil {
		t.Errorf("found %+v, want nothing", got)
	}
}
