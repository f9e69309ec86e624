package verify

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestARolloutIsJudgedByItsWholeStatus(t *testing.T) {
	change := func(c func(*appsv1.Deployment)) func(*Rollout) {
		return func(r *Rollout) { c(r.Deployment) }
	}
	for _, tt := range []struct {
		name   string
		change func(*Rollout)
		state  State
		reason string
		late   heal.Outcome
	}{
		{"whole", func(*Rollout) {}, Good, "Verified", ""},
		{"gone", func(r *Rollout) { r.Deployment = nil }, Moot, "NoLongerWanted", ""},
		{"another object", func(r *Rollout) { r.Target.UID = "d2" }, Moot, "NoLongerWanted", ""},
		{"being deleted", change(func(d *appsv1.Deployment) { d.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }), Moot, "NoLongerWanted", ""},
		{"scaled to zero", change(func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(0)) }), Moot, "NoLongerWanted", ""},
		{"with another template", func(r *Rollout) { r.InPlace = false }, Bad, "Overridden", ""},
		{"paused", change(func(d *appsv1.Deployment) { d.Spec.Paused = true }), Pending, "", ""},
		{"not looked at yet", change(func(d *appsv1.Deployment) { d.Generation = 8 }), Pending, "", ""},
		{"not all updated", change(func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 2 }), Pending, "", ""},
		{"not all available", change(func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 2 }), Pending, "", ""},
		{"old pods left", change(func(d *appsv1.Deployment) { d.Status.Replicas = 4 }), Pending, "", ""},
		{"a pod too many that is not available", change(func(d *appsv1.Deployment) { d.Status.UnavailableReplicas = 1 }), Pending, "", ""},
		{"stalled", change(func(d *appsv1.Deployment) {
			d.Status.AvailableReplicas = 2
			d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}}
		}), Pending, "", heal.Failed},
	} {
		r := Rollout{
			Target: heal.Target{Kind: "Deployment", Namespace: "shop", Name: "web", UID: "d1"}, InPlace: true, Done: "it was changed",
			Deployment: &appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{UID: "d1", Generation: 7},
				Spec:       appsv1.DeploymentSpec{Replicas: new(int32(3))},
				Status:     appsv1.DeploymentStatus{ObservedGeneration: 7, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3},
			},
		}
		tt.change(&r)
		got := r.Judge()
		late := heal.Outcome("")
		if got.Late != nil {
			late = got.Late.Outcome
		}
		if got.State != tt.state || got.Reason != tt.reason || late != tt.late || got.Message == "" {
			t.Errorf("%s: %+v, want %s %q, late %q", tt.name, got, tt.state, tt.reason, tt.late)
		}
	}
}
