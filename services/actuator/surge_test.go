package actuator_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
)

const maxReplicas = "selfheal.dev/max-replicas"

func surgeOf(p *corev1.Pod) heal.Decision {
	return decide(podTarget(p), heal.PodFailure, heal.ScaleAndReplace)
}

// did is what the writes did, in their order: "patch deployments".
func did(writes []kubetest.AuditEvent) []string {
	var all []string
	for _, e := range writes {
		all = append(all, strings.TrimSuffix(e.Verb+" "+e.Resource+"/"+e.Subresource, "/"))
	}
	return all
}

// replicas fails the test unless the Deployment web wants so many pods and
// carries no mark of a surge.
func (r *rig) replicas(want int32) {
	r.t.Helper()
	d := r.deployment()
	if got := *d.Spec.Replicas; got != want {
		r.t.Errorf("%d replicas, want %d", got, want)
	}
	for _, key := range []string{heal.AnnotationOwnedBy, heal.AnnotationDecisionID, heal.AnnotationPrevious} {
		if value, ok := d.Annotations[key]; ok {
			r.t.Errorf("left behind: %s: %s", key, value)
		}
	}
}

func TestAPodIsReplacedByOneMoreThatIsReadyFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	pods := r.ready(r.deploy("web", "shop/api:good", 1, annotated(maxReplicas, "2")))
	r.whole()
	bad := r.crash(pods[0])
	res := r.carryOut(surgeOf(bad))

	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	want := []string{"patch deployments", "delete pods", "patch deployments"}
	if diff := cmp.Diff(want, did(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	r.replicas(1)
	r.whole()
	if err := r.gone(bad)(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWhereOnePodMoreIsNotPermittedThePodIsRecreated(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*appsv1.Deployment)
		says   string
	}{
		"nothing permits it":   {func(*appsv1.Deployment) {}, "no selfheal.dev/max-replicas"},
		"it is at the maximum": {annotated(maxReplicas, "1"), "permits 1"},
		"no number":            {annotated(maxReplicas, "many"), "not a number"},
		"in Git": {func(d *appsv1.Deployment) {
			d.Annotations = map[string]string{maxReplicas: "5", "argocd.argoproj.io/tracking-id": "shop"}
		}, "managed by Argo CD"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.start(quick())
			pods := r.ready(r.deploy("web", "shop/api:good", 1, tt.change))
			r.whole()
			res := r.carryOut(surgeOf(r.crash(pods[0])))
			if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
				t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
			}
			if diff := cmp.Diff([]string{"delete pods"}, did(r.writes())); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if i := 0; !strings.Contains(res.Steps[i].Detail+res.Steps[1].Detail, tt.says) {
				t.Errorf("steps %+v do not say %q", res.Steps, tt.says)
			}
		})
	}
}

func TestABadPodIsKeptWhenTheOneMoreFailsToo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	pods := r.deploy("web", "shop/api:broken", 1, annotated(maxReplicas, "2"), impatient)
	bad := r.until(&pods[0], "in a crash loop", crashLoops)
	r.untilDeployment("stalled", func(d *appsv1.Deployment) bool {
		return len(d.Status.Conditions) > 0 && strings.Contains(fmt.Sprint(d.Status.Conditions), "ProgressDeadlineExceeded")
	})
	res := r.carryOut(surgeOf(bad))

	if got, want := end(res), (ended{heal.Failed, "NotFixed"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if diff := cmp.Diff([]string{"patch deployments", "patch deployments"}, did(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	r.replicas(1)
}

// autoscaler makes an autoscaler of web, which never sees any metrics.
func (r *rig) autoscaler(change ...func(*autoscalingv2.HorizontalPodAutoscaler)) {
	r.t.Helper()
	h := &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"},
			MinReplicas:    new(int32(1)), MaxReplicas: 4,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: new(int32(80))}}}},
		},
	}
	for _, c := range change {
		c(h)
	}
	if _, err := r.admin.AutoscalingV2().HorizontalPodAutoscalers(r.ns).Create(r.t.Context(), h, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

// lowest is what the autoscaler keeps at least.
func (r *rig) lowest() int32 {
	r.t.Helper()
	h, err := r.admin.AutoscalingV2().HorizontalPodAutoscalers(r.ns).Get(r.t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return *h.Spec.MinReplicas
}

func TestAnAutoscalerIsAskedForTheOneMore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 90 * time.Second
	r.start(cfg)
	pods := r.ready(r.deploy("web", "shop/api:good", 2, annotated(maxReplicas, "3")))
	r.whole()
	r.autoscaler()
	res := r.carryOut(surgeOf(r.crash(pods[0])))

	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	want := []string{"patch horizontalpodautoscalers", "delete pods", "patch horizontalpodautoscalers", "patch deployments", "patch horizontalpodautoscalers"}
	if diff := cmp.Diff(want, did(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if got := r.lowest(); got != 1 {
		t.Errorf("the autoscaler keeps %d at least, want 1", got)
	}
	r.replicas(2)
}

func TestKEDAIsAskedForTheOneMoreThroughItsOwnObject(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 90 * time.Second
	r.start(cfg)
	r.define("keda.sh", "v1alpha1", "ScaledObject", "Namespaced")
	path := "/apis/keda.sh/v1alpha1/namespaces/" + r.ns + "/scaledobjects"
	made := r.custom("POST", path, map[string]any{
		"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": map[string]any{"name": "web"},
		"spec": map[string]any{"scaleTargetRef": map[string]any{"name": "web"}},
	})
	uid := made["metadata"].(map[string]any)["uid"].(string)
	pods := r.ready(r.deploy("web", "shop/api:good", 2, annotated(maxReplicas, "3")))
	r.whole()
	r.autoscaler(func(h *autoscalingv2.HorizontalPodAutoscaler) {
		h.OwnerReferences = []metav1.OwnerReference{{APIVersion: "keda.sh/v1alpha1", Kind: "ScaledObject", Name: "web", UID: types.UID(uid), Controller: new(true)}}
	})
	r.background(func(ctx context.Context) error { // what KEDA does
		for {
			o := r.custom("GET", path+"/web", nil)
			lowest := int32(1)
			if n, ok := o["spec"].(map[string]any)["minReplicaCount"].(float64); ok {
				lowest = max(1, int32(n))
			}
			patch := fmt.Appendf(nil, `{"spec":{"minReplicas":%d}}`, lowest)
			if _, err := r.admin.AutoscalingV2().HorizontalPodAutoscalers(r.ns).Patch(ctx, "web", types.MergePatchType, patch, metav1.PatchOptions{}); err != nil && ctx.Err() == nil {
				return err
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(time.Second):
			}
		}
	})
	res := r.carryOut(surgeOf(r.crash(pods[0])))

	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	want := []string{"patch scaledobjects", "delete pods", "patch scaledobjects", "patch deployments", "patch scaledobjects"}
	if diff := cmp.Diff(want, did(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if spec := r.custom("GET", path+"/web", nil)["spec"].(map[string]any); spec["minReplicaCount"] != nil {
		t.Errorf("left behind: %v", spec)
	}
	r.replicas(2)
}

func TestASurgeThatAPauseInterruptsIsTakenBackAfterwards(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	pods := r.ready(r.deploy("web", "shop/api:good", 1, annotated(maxReplicas, "2")))
	r.whole()
	bad := r.crash(pods[0])
	// A pod of this template never gets Ready, so that the surge has to wait.
	r.hold(r.ns)
	d := surgeOf(bad)
	r.publish(d)
	r.untilDeployment("surged", func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 2 })
	r.control(heal.Control{Verb: heal.Pause})
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Rejected, "Paused"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if got := *r.deployment().Spec.Replicas; got != 2 {
		t.Errorf("%d replicas while paused, want 2: nothing is changed then", got)
	}
	if res.Undo == nil || !strings.Contains(res.Undo.Summary, "could not be taken back") {
		t.Errorf("undo %+v does not say that something stays", res.Undo)
	}
	r.control(heal.Control{Verb: heal.Resume})
	r.untilDeployment("scaled back", func(d *appsv1.Deployment) bool { return *d.Spec.Replicas == 1 })
	r.replicas(1)
}

// hold keeps further pods of the namespace from being created.
func (r *rig) hold(ns string) {
	r.t.Helper()
	_, err := r.admin.CoreV1().ResourceQuotas(ns).Create(r.t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "full"}, Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: *zero()}},
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
}

func TestASurgeSurvivesTheDeathOfItsActuatorAtEachStep(t *testing.T) {
	t.Parallel()
	for _, at := range []crash.Point{
		crash.BeforeAPI + ":1", crash.AfterAPIBeforeRecord + ":1", // one pod more
		crash.BeforeAPI + ":2", crash.AfterAPIBeforeRecord + ":2", // the bad one goes
		crash.BeforeAPI + ":3", crash.AfterAPIBeforeRecord + ":3", // scaled back
		crash.AfterRecordBeforeAck,
	} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, bustest.Listen(t), kubetest.Get(t))
			pods := r.ready(r.deploy("web", "shop/api:good", 2, annotated(maxReplicas, "3")))
			r.whole()
			sick := r.crash(pods[0])
			r.survives(at, surgeOf(sick), verified, nil)
			if diff := cmp.Diff([]string{"patch deployments", "delete pods", "patch deployments"}, did(r.effective())); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			r.replicas(2)
		})
	}
}

func TestAPodThatSuffersFromItsNodeIsMadeAnewElsewhere(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	r.start(quick())
	a, b := r.nodes()
	cordon(t, r, b, true)
	pods := r.ready(r.deploy("web", "shop/api:good", 2, r.here))
	cordon(t, r, b, false)
	d := decide(podTarget(r.crash(pods[0])), heal.PodFailure, heal.Recreate)
	d.Cause = heal.Cause{Kind: heal.CauseNode, Confidence: 0.85}
	res := r.carryOut(d)

	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.HasSuffix(res.Message, "is Ready on "+b) {
		t.Errorf("message %q does not say that it is on %s", res.Message, b)
	}
	if diff := cmp.Diff([]string{"patch nodes", "delete pods", "patch nodes"}, did(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if n := r.node(a); len(n.Spec.Taints) > 0 {
		t.Errorf("left behind: %v", n.Spec.Taints)
	}
}
