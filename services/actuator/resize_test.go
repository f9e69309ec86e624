package actuator_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
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

func TestAPodIsResizedInPlaceWhileItWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	r.statefulSet(2, func(s *appsv1.StatefulSet) {
		s.Annotations = map[string]string{"selfheal.dev/max-memory": "1Gi"}
		s.Spec.MinReadySeconds = 3
		s.Spec.Template.Spec.Containers[0].Image = "shop/db:oom-needs-100Mi"
		s.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("128Mi")}
	})
	// It ran out of memory a moment ago, and runs again: the last one has its turn first.
	pod, err := r.admin.CoreV1().Pods(r.ns).Get(t.Context(), "db-0", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.cluster.SetBehaviour(t.Context(), r.ns, pod.Name, "oom"); err != nil {
		t.Fatal(err)
	}
	pod = r.until(pod, "in a crash loop", crashLoops)
	if err := r.cluster.SetBehaviour(t.Context(), r.ns, pod.Name, ""); err != nil {
		t.Fatal(err)
	}
	res := r.carryOut(resizeOf(pod))
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
			d := resizeOf(r.starving("1Gi"))
			v := &victim{rig: r, decision: d, first: r.launch(at, "KILL")}
			r.publish(d)
			v.killed(v.first)
			second := r.launch("", "")
			res := r.result(d, 2*time.Minute)
			if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
				t.Errorf("ended %v, want %v: %s", got, want, res.Message)
			}
			r.settled()
			if got := memoryOf(r.deployment().Spec.Template.Spec.Containers[0]); got != "192Mi" {
				t.Errorf("the template's limit is %s, want 192Mi: it was raised once", got)
			}
			v.stop(second)
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

// claim makes a claim whose volume is of a class that grows, and a Decision
// about it.
func (r *rig) claim(annotations map[string]string) heal.Decision {
	r.t.Helper()
	ctx, ten := r.t.Context(), corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")}
	_, err := r.admin.StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: r.ns}, Provisioner: "shop.example/disk", AllowVolumeExpansion: new(true),
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = r.admin.CoreV1().PersistentVolumes().Create(ctx, &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: r.ns},
		Spec: corev1.PersistentVolumeSpec{
			Capacity: ten, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: r.ns,
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			PersistentVolumeSource:        corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "shop.example", VolumeHandle: r.ns}},
			ClaimRef:                      &corev1.ObjectReference{Namespace: r.ns, Name: "data"},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = r.admin.CoreV1().PersistentVolumeClaims(r.ns).Create(ctx, &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data", Annotations: annotations},
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &r.ns, VolumeName: r.ns,
			Resources: corev1.VolumeResourceRequirements{Requests: ten},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	c := r.untilClaim("Bound", func(c *corev1.PersistentVolumeClaim) bool { return c.Status.Phase == corev1.ClaimBound })
	d := decide(heal.Target{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: r.ns, Name: "data", UID: string(c.UID)}, heal.ResourceExhaustion, heal.Relieve)
	d.Failure.Reason, d.Failure.Detector = "VolumeNearlyFull", "volume_nearly_full"
	d.Failure.Metadata = map[string]string{"of": strconv.Itoa(10 << 30), "percent": "97"}
	return d
}

func (r *rig) untilClaim(what string, as func(*corev1.PersistentVolumeClaim) bool) *corev1.PersistentVolumeClaim {
	r.t.Helper()
	var now *corev1.PersistentVolumeClaim
	kubetest.Eventually(r.t, 40*time.Second, func(ctx context.Context) (err error) {
		if now, err = r.admin.CoreV1().PersistentVolumeClaims(r.ns).Get(ctx, "data", metav1.GetOptions{}); err != nil {
			return err
		}
		if !as(now) {
			return fmt.Errorf("the claim is not %s: %+v", what, now.Status)
		}
		return nil
	})
	return now
}

func asksFor(c *corev1.PersistentVolumeClaim) string {
	return c.Spec.Resources.Requests.Storage().String()
}

func TestAVolumeGrowsAsFarAsItsClaimPermits(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	d := r.claim(map[string]string{"selfheal.dev/max-volume": "12Gi"})
	r.publish(d)
	c := r.untilClaim("asked to grow", func(c *corev1.PersistentVolumeClaim) bool { return asksFor(c) == "12Gi" })
	c.Status.Capacity[corev1.ResourceStorage] = resource.MustParse("12Gi") // what its driver does
	if _, err := r.admin.CoreV1().PersistentVolumeClaims(r.ns).UpdateStatus(t.Context(), c, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if diff := cmp.Diff([]string{"patch persistentvolumeclaims"}, did(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if got := c.Annotations[heal.AnnotationPrevious]; got != "10Gi" {
		t.Errorf("previous %q, want 10Gi", got)
	}
}

func TestAVolumeThatDoesNotGrowIsSaidSo(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 6 * time.Second
	r.start(cfg)
	d := r.claim(map[string]string{"selfheal.dev/max-volume": "12Gi"})
	res := r.carryOut(d)
	if got, want := end(res), (ended{heal.TimedOut, "VerificationTimedOut"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.Contains(res.Message, "has 10Gi, and 12Gi are asked for") {
		t.Errorf("message %q", res.Message)
	}
}

func TestAVolumeThatNobodyPermitsToGrowStaysAsItIs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	res := r.carryOut(r.claim(nil))
	if got, want := end(res), (ended{heal.Rejected, "NotPermitted"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.noWrites()
}

func TestANodeUnderPressureLosesTheHeaviestPodAndNoMoreThanItNeeds(t *testing.T) {
	t.Parallel()
	r := nodeRig(t)
	r.start(quick())
	a, b := r.nodes()
	r.define("metrics.k8s.io", "v1beta1", "Pod", "Namespaced")
	cordon(t, r, b, true)
	pods := r.ready(r.deploy("web", "shop/api:good", 3, r.here))
	r.ready(r.deploy("kept", "shop/api:good", 1, r.here, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Resources.Limits = corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("10m"), corev1.ResourceMemory: resource.MustParse("16Mi")}
	}))
	cordon(t, r, b, false)
	for i, p := range pods {
		r.custom("POST", "/apis/metrics.k8s.io/v1beta1/namespaces/"+r.ns+"/pods", map[string]any{
			"apiVersion": "metrics.k8s.io/v1beta1", "kind": "Pod", "metadata": map[string]any{"name": p.Name},
			"containers": []any{map[string]any{"name": "app", "usage": map[string]any{"memory": fmt.Sprintf("%dMi", []int{10, 500, 30}[i])}}},
		})
	}
	if err := r.cluster.SetPressure(t.Context(), a, corev1.NodeMemoryPressure); err != nil {
		t.Fatal(err)
	}
	n := r.untilNode(a, "under pressure", func(n *corev1.Node) bool {
		return strings.Contains(fmt.Sprint(n.Status.Conditions), "MemoryPressure True")
	})
	d := decide(nodeTarget(n), heal.ResourceExhaustion, heal.Relieve)
	d.Failure.Reason, d.Failure.Detector = "MemoryPressure", "node_pressure"
	r.publish(d)
	kubetest.Eventually(t, 40*time.Second, r.gone(&pods[1]))
	if err := r.cluster.SetPressure(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if diff := cmp.Diff([]string{"patch nodes", "create pods/eviction", "patch nodes"}, did(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if n := r.node(a); !untouched(n) {
		t.Errorf("left behind: unschedulable %v, annotations %v", n.Spec.Unschedulable, n.Annotations)
	}
}

// early is a Deployment whose next image does not work, long before its
// deadline, and the decision to take that back.
func (r *rig) early(change ...func(*appsv1.Deployment)) heal.Decision {
	r.t.Helper()
	r.ready(r.deploy("web", "shop/api:good", 2, change...))
	r.whole()
	return r.badRollout()
}

// badRollout gives the Deployment an image that does not work, and decides to
// take it back.
func (r *rig) badRollout() heal.Decision {
	r.t.Helper()
	r.patch(types.StrategicMergePatchType, []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"shop/api:broken"}]}}}}`))
	var bad *corev1.Pod
	kubetest.Eventually(r.t, 40*time.Second, func(ctx context.Context) error {
		list, err := r.admin.CoreV1().Pods(r.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=web"})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if crashLoops(&list.Items[i]) {
				bad = &list.Items[i]
				return nil
			}
		}
		return fmt.Errorf("none of %d pods crashes", len(list.Items))
	})
	d := decide(podTarget(bad), heal.DeploymentFailure, heal.Rollback)
	d.Target = deploymentTarget(r.deployment())
	d.Failure.Owner = d.Target
	d.Cause = heal.Cause{Kind: heal.CauseRollout, Confidence: 0.95}
	return d
}

func TestARolloutThatIsSurelyToBlameIsTakenBackBeforeItsDeadline(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	res := r.carryOut(r.early())
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	if got := image(r.whole()); got != "shop/api:good" {
		t.Errorf("image %s", got)
	}
	if diff := cmp.Diff(onePatch, changes(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	res = r.carryOut(r.badRollout())
	if got, want := end(res), (ended{heal.Rejected, "RolledBackBefore"}); got != want {
		t.Errorf("the second time ended %v, want %v: %s", got, want, res.Message)
	}
}

func TestARolloutThatIsSurelyToBlameIsLeftAloneWherePeopleDecide(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*appsv1.Deployment)
		later  func(*rig)
		reason string
	}{
		"in Git": {annotated("argocd.argoproj.io/tracking-id", "shop"), func(*rig) {}, "ManagedByGitOps"},
		"paused": {func(*appsv1.Deployment) {}, func(r *rig) { r.patch(types.MergePatchType, []byte(`{"spec":{"paused":true}}`)) }, "Paused"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.start(quick())
			d := r.early(tt.change)
			tt.later(r)
			res := r.carryOut(d)
			if got, want := end(res), (ended{heal.Rejected, tt.reason}); got != want {
				t.Errorf("ended %v, want %v: %s", got, want, res.Message)
			}
			if w := r.writes(); len(w) > 0 {
				t.Errorf("writes %v, want none", w)
			}
		})
	}
}
