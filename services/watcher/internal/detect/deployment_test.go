package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func rollout(available int32, conditions ...appsv1.DeploymentCondition) *appsv1.Deployment {
	three := int32(3)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Generation: 4, Annotations: map[string]string{RevisionAnnotation: "2"}},
		Spec:       appsv1.DeploymentSpec{Replicas: &three},
		Status:     appsv1.DeploymentStatus{ObservedGeneration: 4, AvailableReplicas: available, UpdatedReplicas: 1, Conditions: conditions},
	}
}

var (
	stalled     = appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded", Message: `ReplicaSet "web-2" has timed out progressing.`}
	progressing = appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "ReplicaSetUpdated"}
	unavailable = appsv1.DeploymentCondition{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionFalse, Reason: "MinimumReplicasUnavailable"}
	available   = appsv1.DeploymentCondition{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: "MinimumReplicasAvailable"}
)

func TestDeploymentIsFoundWhenItsRolloutStallsOrNothingIsAvailable(t *testing.T) {
	metadata := func(available string) map[string]string {
		return map[string]string{"revision": "2", "available": available, "desired": "3", "updated": "1"}
	}
	ofStalled := Finding{
		Reason:      "ProgressDeadlineExceeded",
		Description: "deployment web made no progress with its roll-out: 2 of 3 replicas available, 1 of the latest revision",
		Evidence: []heal.Evidence{
			{Path: "status.conditions[1].status", Value: "False"},
			{Path: "status.conditions[1].reason", Value: "ProgressDeadlineExceeded"},
			{Path: "status.conditions[1].message", Value: `ReplicaSet "web-2" has timed out progressing.`},
			{Path: "status.availableReplicas", Value: "2"},
			{Path: "status.updatedReplicas", Value: "1"},
		},
		Metadata: metadata("2"),
	}
	ofUnavailable := Finding{
		Reason: "MinimumReplicasUnavailable", Hold: time.Minute,
		Description: "deployment web serves nothing: 0 of 3 replicas available, 1 of the latest revision",
		Evidence: []heal.Evidence{
			{Path: "status.conditions[0].status", Value: "False"},
			{Path: "status.conditions[0].reason", Value: "MinimumReplicasUnavailable"},
			{Path: "status.availableReplicas", Value: "0"},
			{Path: "status.updatedReplicas", Value: "1"},
		},
		Metadata: metadata("0"),
	}
	tests := []struct {
		name       string
		deployment *appsv1.Deployment
		want       []Finding
	}{
		{"stalled while the old revision serves", rollout(2, available, stalled), []Finding{ofStalled}},
		{"nothing available", rollout(0, unavailable, progressing), []Finding{ofUnavailable}},
		{"too little available is not nothing", rollout(1, unavailable, progressing), nil},
		{"on its way", rollout(2, available, progressing), nil},
		{"new", rollout(0), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []Finding
			for _, d := range Deployments {
				got = append(got, d.Find(tt.deployment, Facts{Now: noon, Thresholds: defaults})...)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStalledRolloutOfWhichNothingIsAvailableIsOneFailure(t *testing.T) {
	var got []string
	for _, d := range Deployments {
		for _, f := range d.Find(rollout(0, unavailable, stalled), Facts{Now: noon, Thresholds: defaults}) {
			got = append(got, f.Reason)
		}
	}
	if diff := cmp.Diff([]string{"ProgressDeadlineExceeded"}, got); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	if deploymentUnavailable.Well(rollout(0, unavailable, stalled), "") {
		t.Error("a deployment of which nothing is available is taken for well, because it has stalled as well")
	}
	if !deploymentUnavailable.Well(rollout(1, unavailable, stalled), "") {
		t.Error("a deployment of which something is available is not unavailable")
	}
}

func TestDeploymentThatStandsStillOnPurposeIsExcused(t *testing.T) {
	change := func(f func(*appsv1.Deployment)) *appsv1.Deployment {
		d := rollout(0, unavailable, stalled)
		f(d)
		return d
	}
	none := int32(0)
	tests := []struct {
		name       string
		deployment *appsv1.Deployment
		age        time.Duration // of the roll-out
		want       [2]Excuse     // of a stalled one, of an unavailable one
	}{
		{"any other is not", change(func(*appsv1.Deployment) {}), time.Minute, [2]Excuse{None, None}},
		{"a young roll-out", change(func(*appsv1.Deployment) {}), 59 * time.Second, [2]Excuse{None, Masked}},
		{"paused", change(func(d *appsv1.Deployment) { d.Spec.Paused = true }), time.Hour, [2]Excuse{Leaving, Leaving}},
		{"scaled to zero", change(func(d *appsv1.Deployment) { d.Spec.Replicas = &none }), time.Hour, [2]Excuse{Leaving, Leaving}},
		{"deleted", change(func(d *appsv1.Deployment) { d.DeletionTimestamp = &metav1.Time{Time: noon} }), time.Hour, [2]Excuse{Leaving, Leaving}},
		{"changed, and not looked at yet", change(func(d *appsv1.Deployment) { d.Generation++ }), time.Hour, [2]Excuse{Masked, Masked}},
		{"one replica by default", change(func(d *appsv1.Deployment) { d.Spec.Replicas = nil }), time.Hour, [2]Excuse{None, None}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			facts := Facts{Now: noon, RolloutSince: noon.Add(-tt.age)}
			got := [2]Excuse{deploymentStalled.Excuse(tt.deployment, facts), deploymentUnavailable.Excuse(tt.deployment, facts)}
			if got != tt.want {
				t.Errorf("excuses %v, want %v", got, tt.want)
			}
		})
	}
}
