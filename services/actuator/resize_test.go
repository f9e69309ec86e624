package actuator_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
)

// starving is a Deployment whose pods need more memory than they may use.
func (r *rig) starving(permit string) *corev1.Pod {
	r.t.Helper()
	pods := r.deploy("web", "shop/api:oom-needs-160Mi", 1, impatient, annotated("selfheal.dev/max-memory", permit), func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")}
	})
	pod := r.until(&pods[0], "in a crash loop", crashLoops)
	r.untilDeployment("stalled", func(d *appsv1.Deployment) bool {
		return strings.Contains(fmt.Sprint(d.Status.Conditions), "ProgressDeadlineExceeded")
	})
	return pod
}

func resizeOf(p *corev1.Pod) heal.Decision {
	d := decide(podTarget(p), heal.PodFailure, heal.Resize)
	d.Failure.Reason, d.Failure.Detector = "OOMKilled", "oom_killed"
	d.Failure.Metadata = map[string]string{"container": "app"}
	return d
}

func memoryOf(c corev1.Container) string { return c.Resources.Limits.Memory().String() }

func TestAContainerThatRunsOutOfMemoryMayUseMore(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	res := r.carryOut(resizeOf(r.starving("1Gi")))

	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	now := r.whole()
	if got := memoryOf(now.Spec.Template.Spec.Containers[0]); got != "192Mi" {
		t.Errorf("the template's limit is %s, want 192Mi", got)
	}
	if got, want := now.Annotations[heal.AnnotationPrevious], "app limits.memory=128Mi"; got != want {
		t.Errorf("previous %q, want %q", got, want)
	}
	if got := did(r.writes()); len(got) < 1 || len(got) > 2 || got[0] != "patch deployments" || len(got) == 2 && got[1] != "patch pods/resize" {
		t.Errorf("writes %v, want one of the template, and perhaps one in place", got)
	}
	if res.Undo == nil || !strings.HasSuffix(res.Undo.Command, "-c app --limits=memory=128Mi") {
		t.Errorf("undo %+v", res.Undo)
	}
}

// starvingMember is the first pod of a StatefulSet, whose last one has its turn
// first: it ran out of memory a moment ago, and runs again.
func (r *rig) starvingMember() *corev1.Pod {
	r.t.Helper()
	r.statefulSet(2, func(s *appsv1.StatefulSet) {
		s.Annotations = map[string]string{"selfheal.dev/max-memory": "1Gi"}
		s.Spec.MinReadySeconds = 3
		s.Spec.Template.Spec.Containers[0].Image = "shop/db:oom-needs-100Mi"
		s.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")}
	})
	first := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: "db-0"}}
	if err := r.cluster.SetBehaviour(r.t.Context(), r.ns, first.Name, "oom"); err != nil {
		r.t.Fatal(err)
	}
	first = r.until(first, "in a crash loop", crashLoops)
	if err := r.cluster.SetBehaviour(r.t.Context(), r.ns, first.Name, ""); err != nil {
		r.t.Fatal(err)
	}
	return first
}

// resizedInPlace waits until the pod that d is about has more memory, and then
// lets further pods be made.
func (r *rig) resizedInPlace(d heal.Decision) {
	r.t.Helper()
	r.until(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.ns, Name: d.Target.Name}}, "resized", func(p *corev1.Pod) bool {
		return string(p.UID) == d.Target.UID && memoryOf(p.Spec.Containers[0]) == "192Mi"
	})
	if err := r.admin.CoreV1().ResourceQuotas(r.ns).Delete(r.t.Context(), "full", metav1.DeleteOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

func TestAPodIsResizedInPlaceWhileItWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = time.Minute
	r.start(cfg)
	d := resizeOf(r.starvingMember())
	r.hold(r.ns) // the last pod is not made anew meanwhile, so the first waits for its turn
	r.publish(d)
	r.resizedInPlace(d)
	res := r.result(d, 2*time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if diff := cmp.Diff([]string{"patch statefulsets", "patch pods/resize"}, did(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func TestAResizeSurvivesTheDeathOfItsActuatorAtEachStep(t *testing.T) {
	t.Parallel()
	for _, at := range []crash.Point{crash.BeforeAPI + ":1", crash.AfterAPIBeforeRecord + ":1"} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, bustest.Listen(t), kubetest.Get(t))
			r.survives(at, resizeOf(r.starving("1Gi")), verified, nil)
			if got := memoryOf(r.deployment().Spec.Template.Spec.Containers[0]); got != "192Mi" {
				t.Errorf("the template's limit is %s, want 192Mi: it was raised once", got)
			}
		})
	}
}

func TestAResizeInPlaceSurvivesTheDeathOfItsActuator(t *testing.T) {
	t.Parallel()
	for _, at := range []crash.Point{crash.AfterAPIBeforeRecord + ":1", crash.BeforeAPI + ":2", crash.AfterAPIBeforeRecord + ":2"} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, bustest.Listen(t), kubetest.Get(t))
			d := resizeOf(r.starvingMember())
			r.hold(r.ns) // the last pod is not made anew meanwhile, so the first waits for its turn
			r.survives(at, d, verified, func() { r.resizedInPlace(d) })
			if diff := cmp.Diff([]string{"patch statefulsets", "patch pods/resize"}, did(r.effective())); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAResizeThatSomebodyTakesBackIsNotRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.VerifyWindow = 10 * time.Second
	r.start(cfg)
	d := resizeOf(r.starving("1Gi"))
	r.publish(d)
	r.untilDeployment("resized", func(d *appsv1.Deployment) bool { return memoryOf(d.Spec.Template.Spec.Containers[0]) == "192Mi" })
	r.patch(types.StrategicMergePatchType, []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"app","resources":{"limits":{"memory":"130Mi"}}}]}}}}`))
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Failed, "Overridden"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.Contains(res.Message, "field manager somebody") {
		t.Errorf("message %q does not name who", res.Message)
	}
}
