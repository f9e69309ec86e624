package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// degraded is a deployment of eight that is rolled out, and of which so many
// are available.
func degraded(n int32, conditions ...appsv1.DeploymentCondition) *appsv1.Deployment {
	d := rollout(n, conditions...)
	eight := int32(8)
	d.Spec.Replicas = &eight
	d.Status.Replicas, d.Status.UpdatedReplicas = 8, 8
	return d
}

func TestDeploymentThatLacksReplicasWithoutARolloutIsFound(t *testing.T) {
	want := []Finding{{
		Reason: "ReplicasMissing", Hold: 15 * time.Minute,
		Description: "deployment web lacks replicas: 6 of 8 replicas available",
		Evidence:    []heal.Evidence{{Path: "status.availableReplicas", Value: "6"}, {Path: "spec.replicas", Value: "8"}},
		Metadata:    map[string]string{"available": "6", "desired": "8"},
	}}
	change := func(d *appsv1.Deployment, f func(*appsv1.Deployment)) *appsv1.Deployment {
		f(d)
		return d
	}
	tests := []struct {
		name       string
		deployment *appsv1.Deployment
		want       []Finding
	}{
		{"two are missing", degraded(6, available), want},
		{"so many that it counts as unavailable", degraded(6, unavailable), want},
		{"all are there", degraded(8, available), nil},
		{"more than all are there", degraded(9, available), nil},
		{"none is there", degraded(0, unavailable), nil},
		{"the latest revision is not everywhere yet", change(degraded(6), func(d *appsv1.Deployment) { d.Status.UpdatedReplicas = 7 }), nil},
		{"the revision before has not gone yet", change(degraded(6), func(d *appsv1.Deployment) { d.Status.Replicas = 9 }), nil},
		{"its roll-out has stalled", degraded(6, stalled), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, deploymentDegraded.Find(tt.deployment, Facts{Now: noon})); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReplicasThatAreOnTheirWayOrMovedByADrainAreNotMissing(t *testing.T) {
	tests := []struct {
		name   string
		n      int32
		facts  Facts
		change func(*appsv1.Deployment)
		want   Excuse
	}{
		{name: "missing for no reason", n: 6, want: None},
		{name: "just rolled out", n: 6, facts: Facts{RolloutSince: noon.Add(-59 * time.Second)}, want: Masked},
		{name: "just scaled by an autoscaler", n: 6, facts: Facts{ScaledSince: noon.Add(-59 * time.Second)}, want: Masked},
		{name: "scaled a minute ago", n: 6, facts: Facts{ScaledSince: noon.Add(-time.Minute)}, want: None},
		{name: "a quarter while nodes are drained", n: 6, facts: Facts{Draining: true}, want: Masked},
		{name: "more than a quarter while nodes are drained", n: 5, facts: Facts{Draining: true}, want: None},
		{name: "one of two while nodes are drained", n: 1, facts: Facts{Draining: true}, change: func(d *appsv1.Deployment) { *d.Spec.Replicas = 2 }, want: Masked},
		{name: "none missing any more, still draining", n: 8, facts: Facts{Draining: true}, want: None},
		{name: "paused", n: 6, change: func(d *appsv1.Deployment) { d.Spec.Paused = true }, want: Leaving},
		{name: "scaled to zero", n: 6, change: func(d *appsv1.Deployment) { *d.Spec.Replicas = 0 }, want: Leaving},
		{name: "deleted", n: 6, change: func(d *appsv1.Deployment) { d.DeletionTimestamp = &metav1.Time{Time: noon} }, want: Leaving},
		{name: "changed, and not looked at yet", n: 6, change: func(d *appsv1.Deployment) { d.Generation++ }, want: Masked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := degraded(tt.n)
			if tt.change != nil {
				tt.change(d)
			}
			tt.facts.Now = noon
			if got := deploymentDegraded.Excuse(d, tt.facts); got != tt.want {
				t.Errorf("excuse %v, want %v", got, tt.want)
			}
		})
	}
	if deploymentDegraded.Well(degraded(7), "") || !deploymentDegraded.Well(degraded(8), "") {
		t.Error("it is over when no replica is missing, and not before")
	}
}

func TestDeploymentThatStartsFromNothingMayTakeItsTime(t *testing.T) {
	recreate := func(d *appsv1.Deployment) { d.Spec.Strategy.Type = appsv1.RecreateDeploymentStrategyType }
	first := func(d *appsv1.Deployment) {
		d.Annotations[RevisionAnnotation] = "1"
		d.CreationTimestamp = metav1.Time{Time: noon.Add(-4 * time.Minute)}
	}
	ago := func(d time.Duration) time.Time { return noon.Add(-d) }
	tests := []struct {
		name   string
		change func(*appsv1.Deployment)
		facts  Facts
		want   Excuse
	}{
		{"it served before", nil, Facts{RolloutSince: ago(2 * time.Minute), ScaledSince: ago(2 * time.Minute)}, None},
		{"just created", first, Facts{RolloutSince: ago(4 * time.Minute)}, Masked},
		{"created long ago", func(d *appsv1.Deployment) { first(d); d.CreationTimestamp.Time = ago(5 * time.Minute) }, Facts{RolloutSince: ago(time.Hour)}, None},
		{"woken from zero", nil, Facts{FromZero: true, ScaledSince: ago(4 * time.Minute)}, Masked},
		{"woken long ago", nil, Facts{FromZero: true, ScaledSince: ago(5 * time.Minute)}, None},
		{"its pods are replaced all at once", recreate, Facts{RolloutSince: ago(4 * time.Minute)}, Masked},
		{"they were, long ago", recreate, Facts{RolloutSince: ago(5 * time.Minute)}, None},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := rollout(0, unavailable, progressing)
			if tt.change != nil {
				tt.change(d)
			}
			tt.facts.Now = noon
			if got := deploymentUnavailable.Excuse(d, tt.facts); got != tt.want {
				t.Errorf("excuse %v, want %v", got, tt.want)
			}
		})
	}
	for draining, want := range map[bool]time.Duration{false: time.Minute, true: 5 * time.Minute} {
		found := deploymentUnavailable.Find(rollout(0, unavailable), Facts{Now: noon, Thresholds: defaults, Draining: draining})
		if len(found) != 1 || found[0].Hold != want {
			t.Errorf("draining %v: found %+v, want a hold of %s", draining, found, want)
		}
	}
}
