package actuator_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
)

// mayMakePods gives the actuators the rights, in the test's namespace, that a
// person gives who wants pods without controllers to be made anew.
func (r *rig) mayMakePods() {
	r.t.Helper()
	_, err := r.admin.RbacV1().Roles(r.ns).Create(r.t.Context(), &rbacv1.Role{
		ObjectMeta: metav1.ObjectMeta{Name: "bare-pods"}, Rules: actuator.BarePodRules(),
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	_, err = r.admin.RbacV1().RoleBindings(r.ns).Create(r.t.Context(), &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "bare-pods"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "bare-pods"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
}

// bare is a pod without a controller that permits to be made anew, with a secret
// in its spec.
func (r *rig) bare(change ...func(*corev1.Pod)) *corev1.Pod {
	r.t.Helper()
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "bare", Labels: map[string]string{"app": "bare"}, Annotations: map[string]string{"selfheal.dev/recreate": "true", "note": "kept"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Image: "shop/api:good", Env: []corev1.EnvVar{{Name: "DB_PASSWORD", Value: "canary-in-env"}},
		}}},
	}
	for _, c := range change {
		c(p)
	}
	p, err := r.admin.CoreV1().Pods(r.ns).Create(r.t.Context(), p, metav1.CreateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// played is a pod that no scheduler takes, so that the test plays its kubelet.
func played(p *corev1.Pod) { p.Spec.SchedulerName = "nobody" }

// crashLooping says of a played pod that it is in a crash loop.
func (r *rig) crashLooping(p *corev1.Pod) *corev1.Pod {
	r.t.Helper()
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse}}
	p.Status.ContainerStatuses = []corev1.ContainerStatus{{
		Name: "app", RestartCount: 7, State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
	}}
	p, err := r.admin.CoreV1().Pods(r.ns).UpdateStatus(r.t.Context(), p, metav1.UpdateOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// runs says of whatever pod comes after a played one that it is Ready.
func (r *rig) runs(old *corev1.Pod) {
	r.background(func(ctx context.Context) error {
		for ctx.Err() == nil {
			now, err := r.admin.CoreV1().Pods(r.ns).Get(ctx, old.Name, metav1.GetOptions{})
			if err == nil && now.UID != old.UID {
				now.Status.Phase = corev1.PodRunning
				now.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
				if _, err := r.admin.CoreV1().Pods(r.ns).UpdateStatus(ctx, now, metav1.UpdateOptions{}); err == nil {
					return nil
				}
			}
			pause(ctx, 100*time.Millisecond)
		}
		return nil
	})
}

func TestTheRightsToMakePodsAnewAreThoseOfTheManual(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../docs/recoveries.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, _ := strings.Cut(string(manual), "```yaml\n")
	example, _, _ = strings.Cut(example, "\n---")
	var role rbacv1.Role
	if err := yaml.UnmarshalStrict([]byte(example), &role); err != nil {
		t.Fatalf("%v in %s", err, example)
	}
	if diff := cmp.Diff(actuator.BarePodRules(), role.Rules); diff != "" {
		t.Errorf("rules (-needed +in the manual):\n%s", diff)
	}
}

var madeAnew = []string{"create podtemplates", "delete pods", "create pods", "delete podtemplates"}

func TestABarePodIsMadeAnewFromItsOwnSpecWhereItPermitsThat(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mayMakePods()
	// What it lacks comes once it is deleted, so that only the next one has it.
	var sent atomic.Int64
	r.start(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if isDelete(req) && sent.Add(1) == 2 { // the first is the dry run
			_, _ = r.admin.CoreV1().ConfigMaps(r.ns).Create(req.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "late"}}, metav1.CreateOptions{})
		}
		return resp, err
	}).between)
	old := r.until(r.bare(func(p *corev1.Pod) {
		p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "late"}}}}
	}), "waiting for its configuration", func(p *corev1.Pod) bool {
		return len(p.Status.ContainerStatuses) > 0 && p.Status.ContainerStatuses[0].State.Waiting != nil && p.Status.ContainerStatuses[0].State.Waiting.Reason == "CreateContainerConfigError"
	})
	d := decide(podTarget(old), heal.PodFailure, heal.Recreate)
	res := r.carryOut(d)
	if got := end(res); got != verified {
		t.Fatalf("ended %v, want %v: %s", got, verified, res.Message)
	}
	if diff := cmp.Diff(madeAnew, did(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	now, err := r.admin.CoreV1().Pods(r.ns).Get(t.Context(), "bare", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if now.UID == old.UID || !isReady(now) {
		t.Errorf("pod %s is not another, or not Ready", now.UID)
	}
	wantNotes := map[string]string{"selfheal.dev/recreate": "true", "note": "kept", heal.AnnotationOwnedBy: heal.FieldManager,
		heal.AnnotationDecisionID: d.ID, heal.AnnotationPrevious: string(old.UID)}
	if diff := cmp.Diff(wantNotes, now.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(plain(old), plain(now)); diff != "" {
		t.Errorf("spec (-before +after):\n%s", diff)
	}
	r.nothingLeft()
	r.noCanary()
}

// plain is the spec without what the scheduler and the API server make up.
func plain(p *corev1.Pod) corev1.PodSpec {
	spec := *p.Spec.DeepCopy()
	spec.NodeName, spec.Volumes = "", nil
	spec.Containers[0].VolumeMounts = nil
	return spec
}

// nothingLeft fails the test if a PodTemplate is there.
func (r *rig) nothingLeft() {
	r.t.Helper()
	list, err := r.admin.CoreV1().PodTemplates(r.ns).List(r.t.Context(), metav1.ListOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	if len(list.Items) > 0 {
		r.t.Errorf("left behind: PodTemplate %s", list.Items[0].Name)
	}
}

// noCanary fails the test if a secret of a pod's spec is anywhere in NATS.
func (r *rig) noCanary() {
	r.t.Helper()
	js := r.server.JetStream(r.t)
	for _, name := range []string{"KV_" + bus.ActionsBucket.Name, "OBJ_" + bus.EvidenceBucket.Name, bus.Results.Stream} {
		stream, err := js.Stream(r.t.Context(), name)
		if err != nil {
			r.t.Fatal(err)
		}
		state := stream.CachedInfo().State
		for seq := state.FirstSeq; seq <= state.LastSeq; seq++ {
			if m, err := stream.GetMsg(r.t.Context(), seq); err == nil && strings.Contains(string(m.Data), "canary") {
				r.t.Errorf("a secret is in %s, %s", name, m.Subject)
			}
		}
	}
}

func TestABarePodIsLeftAloneWithoutTheRightToMakeItAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	d := decide(podTarget(r.crashLooping(r.bare(played))), heal.PodFailure, heal.Recreate)
	res := r.carryOut(d)
	if got, want := end(res), (ended{heal.Rejected, "Forbidden"}); got != want || !strings.Contains(res.Message, `cannot create resource "pods"`) {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if got := r.writes(); len(got) > 0 {
		t.Errorf("writes %v, want none", got)
	}
}

func TestABarePodThatIsChangedOrTakenAwayMeanwhileIsNotMadeAnew(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		meanwhile func(*rig) error
		want      ended
	}{
		"changed": {func(r *rig) error {
			patch := []byte(`{"spec":{"containers":[{"name":"app","image":"shop/api:v2"}]}}`)
			_, err := r.admin.CoreV1().Pods(r.ns).Patch(context.Background(), "bare", "application/strategic-merge-patch+json", patch, metav1.PatchOptions{})
			return err
		}, ended{heal.Rejected, "ChangedSince"}},
		"deleted": {func(r *rig) error {
			return r.admin.CoreV1().Pods(r.ns).Delete(context.Background(), "bare", metav1.DeleteOptions{})
		}, ended{heal.Skipped, "TargetGone"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.mayMakePods()
			failed := make(chan error, 4)
			r.start(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
				resp, err := next.RoundTrip(req)
				if req.Method == http.MethodPost && strings.HasSuffix(req.URL.Path, "/podtemplates") && !strings.Contains(req.URL.RawQuery, "dryRun") {
					failed <- tt.meanwhile(r)
				}
				return resp, err
			}).between)
			res := r.carryOut(decide(podTarget(r.crashLooping(r.bare(played))), heal.PodFailure, heal.Restart))
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
			if got := end(res); got != tt.want {
				t.Errorf("ended %v, want %v: %s", got, tt.want, res.Message)
			}
			if diff := cmp.Diff([]string{"create podtemplates", "delete podtemplates"}, did(r.writes())); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			r.nothingLeft()
		})
	}
}

func TestABarePodIsNotLostWhereverItsActuatorDies(t *testing.T) {
	t.Parallel()
	for _, at := range []crash.Point{
		crash.BeforeAPI + ":1", crash.AfterAPIBeforeRecord + ":1", // its spec is kept
		crash.BeforeAPI + ":2", crash.AfterAPIBeforeRecord + ":2", // it is deleted
		crash.BeforeAPI + ":3", crash.AfterAPIBeforeRecord + ":3", // it is made anew
		crash.BeforeAPI + ":4", crash.AfterAPIBeforeRecord + ":4", // nothing is left
	} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, bustest.Listen(t), kubetest.Get(t))
			r.mayMakePods()
			old := r.crashLooping(r.bare(played))
			r.runs(old)
			r.survives(at, decide(podTarget(old), heal.PodFailure, heal.Recreate), verified, nil)
			if diff := cmp.Diff(madeAnew, did(r.effective())); diff != "" {
				t.Errorf("writes (-want +got):\n%s", diff)
			}
			if err := r.gone(old)(t.Context()); err != nil {
				t.Error(errors.Join(err, errors.New("it was not made anew")))
			}
			r.nothingLeft()
			r.noCanary()
		})
	}
}
