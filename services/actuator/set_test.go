package actuator_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
)

var setLabels = map[string]string{"app": "db"}

func setTemplate(image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: setLabels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
	}
}

// statefulSet makes the StatefulSet db and waits until it is whole.
func (r *rig) statefulSet(replicas int32, change ...func(*appsv1.StatefulSet)) *appsv1.StatefulSet {
	r.t.Helper()
	s := &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec:       appsv1.StatefulSetSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: setLabels}, Template: setTemplate("shop/db:good")},
	}
	for _, c := range change {
		c(s)
	}
	if _, err := r.admin.AppsV1().StatefulSets(r.ns).Create(r.t.Context(), s, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	return r.untilStatefulSet("whole", wholeStatefulSet)
}

func wholeStatefulSet(s *appsv1.StatefulSet) bool {
	return s.Status.ObservedGeneration >= s.Generation && s.Status.ReadyReplicas == *s.Spec.Replicas && s.Status.CurrentRevision == s.Status.UpdateRevision
}

func (r *rig) untilStatefulSet(what string, as func(*appsv1.StatefulSet) bool) *appsv1.StatefulSet {
	r.t.Helper()
	return await(r, "db", what, as, r.admin.AppsV1().StatefulSets(r.ns).Get)
}

// daemonSet makes the DaemonSet db and waits until it is whole.
func (r *rig) daemonSet() *appsv1.DaemonSet {
	r.t.Helper()
	if _, err := r.admin.AppsV1().DaemonSets(r.ns).Create(r.t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec:       appsv1.DaemonSetSpec{Selector: &metav1.LabelSelector{MatchLabels: setLabels}, Template: setTemplate("shop/db:good")},
	}, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	return r.untilDaemonSet("whole", wholeDaemonSet)
}

func wholeDaemonSet(d *appsv1.DaemonSet) bool {
	s := d.Status
	return s.ObservedGeneration >= d.Generation && s.DesiredNumberScheduled > 1 && s.NumberReady == s.DesiredNumberScheduled && s.UpdatedNumberScheduled == s.DesiredNumberScheduled
}

func (r *rig) untilDaemonSet(what string, as func(*appsv1.DaemonSet) bool) *appsv1.DaemonSet {
	r.t.Helper()
	return await(r, "db", what, as, r.admin.AppsV1().DaemonSets(r.ns).Get)
}

// rollOutSet gives the set another image and waits for a pod that loops.
func (r *rig) rollOutSet(kind, image string) *corev1.Pod {
	r.t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":%q}]}}}}`, image)
	var err error
	opts := metav1.PatchOptions{FieldManager: "somebody"}
	if kind == "StatefulSet" {
		_, err = r.admin.AppsV1().StatefulSets(r.ns).Patch(r.t.Context(), "db", types.StrategicMergePatchType, patch, opts)
	} else {
		_, err = r.admin.AppsV1().DaemonSets(r.ns).Patch(r.t.Context(), "db", types.StrategicMergePatchType, patch, opts)
	}
	if err != nil {
		r.t.Fatal(err)
	}
	var bad *corev1.Pod
	kubetest.Eventually(r.t, 60*time.Second, func(ctx context.Context) error {
		list, err := r.admin.CoreV1().Pods(r.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=db"})
		if err != nil {
			return err
		}
		for i := range list.Items {
			if p := &list.Items[i]; p.Spec.Containers[0].Image == image && crashLoops(p) {
				bad = p
				return nil
			}
		}
		return fmt.Errorf("no pod with the image %s loops", image)
	})
	return bad
}

// aboutSet makes a decision about the set db.
func aboutSet(kind string, o metav1.ObjectMeta, strategy heal.Strategy) heal.Decision {
	d := decide(heal.Target{APIVersion: "apps/v1", Kind: kind, Namespace: o.Namespace, Name: o.Name, UID: string(o.UID)}, heal.DeploymentFailure, strategy)
	d.Failure.Reason = kind + "Stalled"
	return d
}

func TestAStuckStatefulSetIsRolledBackAndItsBlockingPodDeleted(t *testing.T) {
	t.Parallel()
	for _, replicas := range []int32{3, 1} {
		t.Run(fmt.Sprint(replicas, " replicas"), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.start(quick())
			r.start(quick())
			s := r.statefulSet(replicas)
			bad := r.rollOutSet("StatefulSet", "shop/db:broken")
			d := aboutSet("StatefulSet", s.ObjectMeta, heal.Rollback)
			res := r.carryOut(d)

			if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
				t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
			}
			now := r.untilStatefulSet("whole", wholeStatefulSet)
			if got := now.Spec.Template.Spec.Containers[0].Image; got != "shop/db:good" {
				t.Errorf("image %s", got)
			}
			if diff := cmp.Diff([]string{"patch statefulsets db", "delete pods " + bad.Name}, changes(r.writes())); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			for _, e := range r.writes() {
				if e.Verb == "delete" && (e.UID != string(bad.UID) || e.ResourceVersion == "" || e.GracePeriodSeconds != nil) {
					t.Errorf("sent %s with UID %q, resourceVersion %q, grace %v", e, e.UID, e.ResourceVersion, e.GracePeriodSeconds)
				}
			}
			if want := "kubectl rollout undo statefulset/db -n " + r.ns + " --to-revision=2"; res.Undo == nil || res.Undo.Command != want {
				t.Errorf("undo %+v, want %s", res.Undo, want)
			}

			// Somebody brings the same template again.
			r.rollOutSet("StatefulSet", "shop/db:broken")
			again := r.carryOut(aboutSet("StatefulSet", s.ObjectMeta, heal.Rollback))
			if got, want := end(again), (ended{heal.Rejected, "RolledBackBefore"}); got != want {
				t.Errorf("ended %v, want %v: %s", got, want, again.Message)
			}
		})
	}
}

func TestABadDaemonSetIsRolledBackByOnePatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	d := r.daemonSet()
	r.rollOutSet("DaemonSet", "shop/db:broken")
	res := r.carryOut(aboutSet("DaemonSet", d.ObjectMeta, heal.Rollback))
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	now := r.untilDaemonSet("whole", wholeDaemonSet)
	if got := now.Spec.Template.Spec.Containers[0].Image; got != "shop/db:good" {
		t.Errorf("image %s", got)
	}
	if diff := cmp.Diff([]string{"patch daemonsets db"}, changes(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if want := "kubectl rollout undo daemonset/db -n " + r.ns + " --to-revision=2"; res.Undo == nil || res.Undo.Command != want {
		t.Errorf("undo %+v, want %s", res.Undo, want)
	}
}

func TestASetIsRestartedByOnePatch(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"StatefulSet", "DaemonSet"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.start(quick())
			var o metav1.ObjectMeta
			if kind == "StatefulSet" {
				o = r.statefulSet(3).ObjectMeta
			} else {
				o = r.daemonSet().ObjectMeta
			}
			list, err := r.admin.CoreV1().Pods(r.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=db"})
			if err != nil {
				t.Fatal(err)
			}
			sick := r.crash(list.Items[1])
			res := r.carryOut(aboutSet(kind, o, heal.Restart))
			if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
				t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
			}
			want := []string{"patch daemonsets db"}
			if kind == "StatefulSet" {
				want = []string{"patch statefulsets db", "delete pods " + sick.Name}
			}
			if diff := cmp.Diff(want, changes(r.writes())); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			for i := range list.Items {
				kubetest.Eventually(t, 20*time.Second, r.gone(&list.Items[i]))
			}
		})
	}
}

func TestARollbackOfASetIsRefusedWithoutAWrite(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*appsv1.StatefulSet)
		image  string // of the roll-out; empty for none
		want   ended
	}{
		{"managed by Argo CD", func(s *appsv1.StatefulSet) {
			s.Annotations = map[string]string{"argocd.argoproj.io/tracking-id": "x"}
		}, "shop/db:broken", ended{heal.Rejected, "ManagedByGitOps"}},
		{"marked", func(s *appsv1.StatefulSet) { s.Annotations = map[string]string{heal.AnnotationMode: "off"} }, "shop/db:broken", ended{heal.Rejected, "MarkedOff"}},
		{"healthy", func(*appsv1.StatefulSet) {}, "", ended{heal.Skipped, heal.ReasonRecovered}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.start(quick())
			s := r.statefulSet(2, tt.change)
			if tt.image != "" {
				r.rollOutSet("StatefulSet", tt.image)
			}
			res := r.carryOut(aboutSet("StatefulSet", s.ObjectMeta, heal.Rollback))
			if got := end(res); got != tt.want {
				t.Errorf("ended %v, want %v: %s", got, tt.want, res.Message)
			}
			r.noWrites()
		})
	}
}

func TestAPodThatHasEndedIsTidiedUp(t *testing.T) {
	t.Parallel()
	for _, strategy := range []heal.Strategy{heal.Restart, heal.Recreate} {
		t.Run(string(strategy), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.start(quick())
			pod := r.ready(r.deploy("web", "shop/api:good", 2))[0]
			if err := r.cluster.SetBehaviour(t.Context(), r.ns, pod.Name, "evicted"); err != nil {
				t.Fatal(err)
			}
			left := r.until(&pod, "Failed", func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed })
			res := r.carryOut(decide(podTarget(left), heal.PodFailure, strategy))
			if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
				t.Errorf("ended %v, want %v: %s", got, want, res.Message)
			}
			if !strings.Contains(res.Message, "2 of 2 wanted pods") {
				t.Errorf("message %q", res.Message)
			}
			if got := r.writes(); len(got) != 1 || got[0].Verb != "delete" || got[0].UID != string(left.UID) {
				t.Errorf("writes %v, want one delete", got)
			}
		})
	}
}

func TestARollbackOfAStatefulSetSurvivesTheDeathOfItsActuator(t *testing.T) {
	t.Parallel()
	for _, at := range []crash.Point{crash.AfterAPIBeforeRecord, crash.AfterAPIBeforeRecord + ":2"} { // the patch, the delete
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, bustest.Listen(t), kubetest.Get(t))
			s := r.statefulSet(3)
			bad := r.rollOutSet("StatefulSet", "shop/db:broken")
			r.survives(at, aboutSet("StatefulSet", s.ObjectMeta, heal.Rollback), verified, nil)
			if diff := cmp.Diff([]string{"patch statefulsets db", "delete pods " + bad.Name}, changes(r.effective())); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
		})
	}
}
