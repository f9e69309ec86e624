package guard

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// deployment is one of three replicas whose roll-out has stalled.
func deployment(change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "d1", Generation: 4},
		Spec:       appsv1.DeploymentSpec{Replicas: new(int32(3))},
		Status: appsv1.DeploymentStatus{
			ObservedGeneration: 4, Replicas: 4, UpdatedReplicas: 1, AvailableReplicas: 3, UnavailableReplicas: 1,
			Conditions: []appsv1.DeploymentCondition{{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}},
		},
	}
	for _, c := range change {
		c(d)
	}
	return d
}

func TestADeploymentIsSickWhenItStallsOrPodsAreMissing(t *testing.T) {
	whole := func(d *appsv1.Deployment) {
		d.Status = appsv1.DeploymentStatus{ObservedGeneration: 4, Replicas: 3, UpdatedReplicas: 3, AvailableReplicas: 3}
	}
	for _, tt := range []struct {
		name   string
		change []func(*appsv1.Deployment)
		sick   bool
	}{
		{"stalled, though the old pods serve", nil, true},
		{"whole", []func(*appsv1.Deployment){whole}, false},
		{"short of one", []func(*appsv1.Deployment){whole, func(d *appsv1.Deployment) { d.Status.AvailableReplicas = 2 }}, true},
		{"scaled to zero", []func(*appsv1.Deployment){func(d *appsv1.Deployment) { d.Spec.Replicas = new(int32(0)) }}, false},
		{"one by default, and none is there", []func(*appsv1.Deployment){whole, func(d *appsv1.Deployment) {
			d.Spec.Replicas, d.Status.AvailableReplicas = nil, 0
		}}, true},
	} {
		if sick, seen := SickDeployment(deployment(tt.change...)); sick != tt.sick || seen == "" {
			t.Errorf("%s: sick %v, want %v: %s", tt.name, sick, tt.sick, seen)
		}
	}
}

func TestAPausedDeploymentOrOneWithAnOldStatusIsLeftAlone(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*appsv1.Deployment)
		want   string
		passes bool
	}{
		{"as it should be", func(*appsv1.Deployment) {}, "", false},
		{"paused", func(d *appsv1.Deployment) { d.Spec.Paused = true }, "Paused", false},
		{"behind", func(d *appsv1.Deployment) { d.Generation = 5 }, "StatusBehind", true},
	} {
		v := rollout.Judge(Facts{Deployment: deployment(tt.change)})
		if v.Reason != tt.want || v.Again > 0 != tt.passes {
			t.Errorf("%s: %+v, want %q", tt.name, v, tt.want)
		}
	}
}

func TestWhoPutsATemplateBackIsKnownByItsMarks(t *testing.T) {
	writer := func(name string) []metav1.ManagedFieldsEntry { return []metav1.ManagedFieldsEntry{{Manager: name}} }
	for _, tt := range []struct {
		meta metav1.ObjectMeta
		want string
	}{
		{metav1.ObjectMeta{Labels: map[string]string{"argocd.argoproj.io/instance": "shop"}}, "Argo CD"},
		{metav1.ObjectMeta{Annotations: map[string]string{"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/web"}}, "Argo CD"},
		{metav1.ObjectMeta{ManagedFields: writer("argocd-controller")}, "Argo CD"},
		{metav1.ObjectMeta{Labels: map[string]string{"kustomize.toolkit.fluxcd.io/name": "shop"}}, "Flux"},
		{metav1.ObjectMeta{Labels: map[string]string{"helm.toolkit.fluxcd.io/name": "shop"}}, "Flux"},
		{metav1.ObjectMeta{ManagedFields: writer("helm-controller")}, "Flux"},
		{metav1.ObjectMeta{Labels: map[string]string{"app.kubernetes.io/managed-by": "Helm"}, ManagedFields: writer("kubectl-client-side-apply")}, ""},
	} {
		if who, seen := ManagedBy(tt.meta); who != tt.want || (seen == "") != (who == "") {
			t.Errorf("%+v: managed by %q (%s), want %q", tt.meta, who, seen, tt.want)
		}
	}
}

func TestOnlyThoseWhoWroteTheTemplateAreItsWriters(t *testing.T) {
	entry := func(manager, subresource, fields string, at time.Time) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Subresource: subresource, Time: &metav1.Time{Time: at},
			FieldsV1: metav1.NewFieldsV1(fields)}
	}
	const template = `{"f:spec":{"f:template":{"f:spec":{}}}}`
	d := deployment(func(d *appsv1.Deployment) {
		d.ManagedFields = []metav1.ManagedFieldsEntry{
			entry("kubectl", "", template, noon),
			entry("autoscaler", "scale", `{"f:spec":{"f:replicas":{}}}`, noon.Add(time.Hour)),
			entry("kube-controller-manager", "status", `{"f:status":{}}`, noon.Add(time.Hour)),
			entry("broken", "", `{`, noon.Add(time.Hour)),
			entry("ci\u202e", "", template, noon.Add(time.Minute)),
		}
	})
	want := []Writer{{"ci", noon.Add(time.Minute)}, {"kubectl", noon}}
	if diff := cmp.Diff(want, TemplateWriters(d.ObjectMeta)); diff != "" {
		t.Errorf("writers (-want +got):\n%s", diff)
	}
}

func TestATemplateIsTakenBackOnceAndAWorkloadOnceADay(t *testing.T) {
	target := heal.Target{Kind: "Deployment", Namespace: "shop", Name: "web", UID: "d1"}
	before := Rollbacks{Done: []Rollback{
		{Decision: "d-1", Hash: "aaa", At: noon.Add(-25 * time.Hour)},
		{Decision: "d-2", Hash: "bbb", At: noon.Add(-23 * time.Hour)},
	}}
	for _, tt := range []struct {
		name           string
		have           Rollbacks
		hash, decision string
		want           string
		kept           int
	}{
		{"the first", Rollbacks{}, "aaa", "d-3", "", 1},
		{"a day later", Rollbacks{Done: before.Done[:1]}, "ccc", "d-3", "", 2},
		{"too soon", before, "ccc", "d-3", RollbackOncePerDay, 2},
		{"the same, however long ago", Rollbacks{Done: before.Done[:1]}, "aaa", "d-3", "RolledBackBefore", 1},
		{"for the same decision", before, "bbb", "d-2", "", 2},
	} {
		next, v := tt.have.Take(noon, target, tt.hash, tt.decision)
		if v.Reason != tt.want || len(next.Done) != tt.kept {
			t.Errorf("%s: %+v, %d kept; want %q and %d", tt.name, v, len(next.Done), tt.want, tt.kept)
		}
	}
	var many Rollbacks
	for i := range 200 {
		next, v := many.Take(noon.AddDate(0, 0, 2*i), target, fmt.Sprint(i), fmt.Sprint(i))
		if !v.Allowed() {
			t.Fatalf("%d: %s", i, v.Detail)
		}
		many = next
	}
	if len(many.Done) != mostKept {
		t.Errorf("%d kept", len(many.Done))
	}
}
