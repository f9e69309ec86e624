package actuator_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
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

// impatient lets a roll-out of the Deployment fail soon.
func impatient(d *appsv1.Deployment) { d.Spec.ProgressDeadlineSeconds = new(int32(2)) }

// annotated puts an annotation on the Deployment.
func annotated(key, value string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Annotations = map[string]string{key: value} }
}

// stalled is a Deployment of two good pods whose next image does not work.
func (r *rig) stalled(change ...func(*appsv1.Deployment)) *appsv1.Deployment {
	r.t.Helper()
	r.ready(r.deploy("web", "shop/api:good", 2, append(change, impatient)...))
	r.whole()
	return r.rollOut("shop/api:broken")
}

// rollOut gives the Deployment another image and waits for that to fail.
func (r *rig) rollOut(image string) *appsv1.Deployment {
	r.t.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":%q}]}}}}`, image)
	r.patch(types.StrategicMergePatchType, patch)
	return r.untilDeployment("stalled", func(d *appsv1.Deployment) bool {
		return d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas > 0 &&
			slices.ContainsFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool {
				return c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded"
			})
	})
}

func (r *rig) patch(kind types.PatchType, patch []byte) {
	r.t.Helper()
	if _, err := r.admin.AppsV1().Deployments(r.ns).Patch(r.t.Context(), "web", kind, patch, metav1.PatchOptions{FieldManager: "somebody"}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) deployment() *appsv1.Deployment {
	r.t.Helper()
	d, err := r.admin.AppsV1().Deployments(r.ns).Get(r.t.Context(), "web", metav1.GetOptions{})
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func (r *rig) untilDeployment(what string, as func(*appsv1.Deployment) bool) *appsv1.Deployment {
	r.t.Helper()
	return await(r, "web", what, as, r.admin.AppsV1().Deployments(r.ns).Get)
}

// whole waits until the Deployment is rolled out.
func (r *rig) whole() *appsv1.Deployment {
	r.t.Helper()
	return r.untilDeployment("rolled out", func(d *appsv1.Deployment) bool {
		n, s := *d.Spec.Replicas, d.Status
		return s.ObservedGeneration >= d.Generation && s.UpdatedReplicas == n && s.AvailableReplicas == n && s.Replicas == n
	})
}

func deploymentTarget(d *appsv1.Deployment) heal.Target {
	return heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: d.Namespace, Name: d.Name, UID: string(d.UID)}
}

// about makes a decision about a Deployment that does not roll out.
func about(d *appsv1.Deployment, strategy heal.Strategy) heal.Decision {
	decision := decide(deploymentTarget(d), heal.DeploymentFailure, strategy)
	decision.Failure.Reason, decision.Failure.Detector = "ProgressDeadlineExceeded", "rollout_stalled"
	return decision
}

// changes are the effective writes to the Deployment.
func changes(writes []kubetest.AuditEvent) []string {
	var all []string
	for _, e := range writes {
		all = append(all, e.Verb+" "+e.Resource+" "+e.Name)
	}
	return all
}

var onePatch = []string{"patch deployments web"}

func image(d *appsv1.Deployment) string { return d.Spec.Template.Spec.Containers[0].Image }

func TestABadRolloutIsTakenBackOnceAndItsPodsVerified(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	bad := r.stalled()
	res := r.carryOut(about(bad, heal.Rollback))

	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	now := r.whole()
	if got := image(now); got != "shop/api:good" {
		t.Errorf("image %s", got)
	}
	if _, ok := now.Spec.Template.Labels[appsv1.DefaultDeploymentUniqueLabelKey]; ok {
		t.Error("the template has the label of a ReplicaSet's")
	}
	marks := map[string]string{}
	for _, key := range []string{heal.AnnotationOwnedBy, heal.AnnotationDecisionID, heal.AnnotationPrevious} {
		marks[key] = now.Annotations[key]
	}
	want := map[string]string{heal.AnnotationOwnedBy: heal.FieldManager, heal.AnnotationDecisionID: res.Decision.ID, heal.AnnotationPrevious: "2"}
	if diff := cmp.Diff(want, marks); diff != "" {
		t.Errorf("marks (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(onePatch, changes(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	for _, e := range r.attempts() {
		var ops []struct {
			Op, Path string
			Value    json.RawMessage
		}
		if err := json.Unmarshal(e.RequestObject, &ops); err != nil {
			t.Fatal(err)
		}
		if ops[0].Op != "test" || ops[0].Path != "/metadata/uid" || string(ops[0].Value) != fmt.Sprintf("%q", bad.UID) ||
			ops[1].Op != "test" || ops[1].Path != "/metadata/resourceVersion" {
			t.Errorf("%s names no object by its UID and version: %+v", e, ops[:2])
		}
	}
	var names []string
	for _, s := range res.Steps {
		names = append(names, s.Name+" "+s.Status)
	}
	if diff := cmp.Diff([]string{"precheck ok", "choose_revision ok", "evidence ok", "roll_back ok", "verify ok"}, names); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if want := "kubectl rollout undo deployment/web -n " + r.ns + " --to-revision=2"; res.Undo == nil || res.Undo.Command != want {
		t.Errorf("undo %+v, want %s", res.Undo, want)
	}
}

func TestNotTheRevisionBeforeButTheLastThatWorksIsChosen(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	r.stalled()
	res := r.carryOut(about(r.rollOut("shop/api:missing"), heal.Rollback))
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if d := r.deployment(); image(d) != "shop/api:good" || d.Annotations[heal.AnnotationPrevious] != "3" {
		t.Errorf("image %s, annotations %v", image(d), d.Annotations)
	}
}

func TestARollbackIsRefusedWithoutAWrite(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change []func(*appsv1.Deployment)
		then   func(*rig)
		want   ended
		says   string
	}{
		{"managed by Argo CD", []func(*appsv1.Deployment){annotated("argocd.argoproj.io/tracking-id", "shop:apps/Deployment:shop/web")}, nil,
			ended{heal.Rejected, "ManagedByGitOps"}, "kubectl rollout undo deployment/web -n %s --to-revision=1"},
		{"managed by Flux", []func(*appsv1.Deployment){func(d *appsv1.Deployment) {
			d.Labels = map[string]string{"kustomize.toolkit.fluxcd.io/name": "shop"}
		}}, nil, ended{heal.Rejected, "ManagedByGitOps"}, "Flux"},
		{"paused", nil, func(r *rig) { r.patch(types.MergePatchType, []byte(`{"spec":{"paused":true}}`)) }, ended{heal.Rejected, "Paused"}, "web"},
		{"marked", []func(*appsv1.Deployment){annotated(heal.AnnotationMode, "observe")}, nil, ended{heal.Rejected, "MarkedObserve"}, "Deployment/web"},
		{"scaled to zero", nil, func(r *rig) {
			r.patch(types.MergePatchType, []byte(`{"spec":{"replicas":0}}`))
			r.whole()
		}, ended{heal.Skipped, heal.ReasonRecovered}, "zero"},
		{"without a ConfigMap that the old template needs", []func(*appsv1.Deployment){func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{
				{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "settings"}}},
			}
		}}, func(r *rig) {
			if err := r.admin.CoreV1().ConfigMaps(r.ns).Delete(r.t.Context(), "settings", metav1.DeleteOptions{}); err != nil {
				r.t.Fatal(err)
			}
		}, ended{heal.Rejected, "ReferenceGone"}, "settings"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.start(quick())
			if _, err := r.admin.CoreV1().ConfigMaps(r.ns).Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "settings"}}, metav1.CreateOptions{}); err != nil {
				t.Fatal(err)
			}
			r.stalled(tt.change...)
			if tt.then != nil {
				tt.then(r)
			}
			res := r.carryOut(about(r.deployment(), heal.Rollback))
			if got := end(res); got != tt.want {
				t.Errorf("ended %v, want %v: %s", got, tt.want, res.Message)
			}
			says := tt.says
			if strings.Contains(says, "%s") {
				says = fmt.Sprintf(says, r.ns)
			}
			if !strings.Contains(res.Message, says) {
				t.Errorf("message %q does not say %q", res.Message, says)
			}
			r.noWrites()
		})
	}
}

func TestADeploymentWithoutARevisionThatWorksIsNotRolledBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	r.deploy("web", "shop/api:crash", 2, impatient)
	d := r.rollOut("shop/api:broken")
	res := r.carryOut(about(d, heal.Rollback))
	if got, want := end(res), (ended{heal.Rejected, "NoHealthyRevision"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.noWrites()
}

func TestATemplateThatChangedAfterTheFailureWasSeenIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	d := about(r.stalled(), heal.Rollback)
	d.Failure.Timestamp.Time = time.Now().Add(-time.Minute)
	res := r.carryOut(d)
	if got, want := end(res), (ended{heal.Rejected, "RolledOutSince"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.noWrites()
}

func TestARolledBackDeploymentIsNotRolledBackAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	r.carryOut(about(r.stalled(), heal.Rollback))
	for _, tt := range []struct {
		name, image, then, want string
	}{
		{"the same template", "shop/api:broken", "", "RolledBackBefore"},
		{"another bad template", "shop/api:missing", "", "RollbackOncePerDay"},
		{"and nobody on the Deployment says so", "shop/api:missing", `{"metadata":{"annotations":{"selfheal.dev/rolled-back":null}}}`, "RollbackOncePerDay"},
	} {
		r.rollOut(tt.image)
		if tt.then != "" {
			r.patch(types.MergePatchType, []byte(tt.then))
		}
		res := r.carryOut(about(r.deployment(), heal.Rollback))
		if got, want := end(res), (ended{heal.Rejected, tt.want}); got != want {
			t.Errorf("%s: ended %v, want %v: %s", tt.name, got, want, res.Message)
		}
	}
	if diff := cmp.Diff(onePatch, changes(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func TestARollbackIsNotMadeAgainWhenTheLedgerIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	d := about(r.stalled(), heal.Rollback)
	r.carryOut(d)
	pods, err := r.admin.CoreV1().Pods(r.ns).List(t.Context(), metav1.ListOptions{LabelSelector: "app=web"})
	if err != nil {
		t.Fatal(err)
	}
	r.crash(*r.until(&pods.Items[0], "there", func(*corev1.Pod) bool { return true }))
	r.untilDeployment("short of a pod", func(d *appsv1.Deployment) bool { return d.Status.AvailableReplicas == 1 })

	other := newRig(t) // another bus, which knows nothing
	other.ns = r.ns
	cfg := quick()
	cfg.RecoveryTimeout = 4 * time.Second
	other.start(cfg)
	res := other.carryOut(d)
	if got, want := end(res), (ended{heal.TimedOut, "VerificationTimedOut"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	other.noWrites()
	if res.Undo == nil || !strings.HasSuffix(res.Undo.Command, "--to-revision=2") {
		t.Errorf("undo %+v", res.Undo)
	}
}

func TestARollbackThatSomebodyUndoesIsNotFoughtOver(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.VerifyWindow = 10 * time.Second
	r.start(cfg)
	d := about(r.stalled(), heal.Rollback)
	r.publish(d)
	r.untilDeployment("rolled back", func(d *appsv1.Deployment) bool { return image(d) == "shop/api:good" })
	r.patch(types.StrategicMergePatchType, []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"shop/api:broken"}]}}}}`))
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Failed, "Overridden"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.Contains(res.Message, "field manager somebody") {
		t.Errorf("message %q does not name who did it", res.Message)
	}
	if res.Undo != nil {
		t.Errorf("undo %+v of what does not stand", res.Undo)
	}
	if diff := cmp.Diff(onePatch, changes(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func TestARollbackThatComesAgainAndAgainIsMadeOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	r.start(quick())
	d := about(r.stalled(), heal.Rollback)
	event := heal.NewEvent(d, r.bus.Cluster(), "analyzer", time.Now())
	for range 5 {
		r.publishEvent(event)
	}
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.settled()
	if got := r.told(d); got != 1 {
		t.Errorf("%d results, want 1", got)
	}
	if diff := cmp.Diff(onePatch, changes(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func isPatch(r *http.Request) bool { return r.Method == http.MethodPatch }

func TestARollbackWhoseAnswerIsLostIsSeenToBeDone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var sent atomic.Int64
	r.start(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if err == nil && isPatch(req) && sent.Add(1) == 2 {
			_ = resp.Body.Close()
			return nil, syscall.ECONNRESET
		}
		return resp, err
	}).between)
	res := r.carryOut(about(r.stalled(), heal.Rollback))
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if diff := cmp.Diff(onePatch, changes(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func TestADeploymentThatMovesBeforeTheWriteIsJudgedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var sent atomic.Int64
	r.start(quick(), fault(func(next http.RoundTripper, req *http.Request) (*http.Response, error) {
		if isPatch(req) && sent.Add(1) == 2 {
			_, err := r.admin.AppsV1().Deployments(r.ns).Patch(req.Context(), "web", types.MergePatchType, []byte(`{"spec":{"paused":true}}`), metav1.PatchOptions{})
			if err != nil {
				return nil, err
			}
		}
		return next.RoundTrip(req)
	}).between)
	res := r.carryOut(about(r.stalled(), heal.Rollback))
	if got, want := end(res), (ended{heal.Rejected, "Paused"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if got := r.writes(); len(got) > 0 {
		t.Errorf("writes %v", got)
	}
}

func TestADryRunOfARollbackOnlyTries(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.DryRun = true
	r.start(cfg)
	res := r.carryOut(about(r.stalled(), heal.Rollback))
	if got, want := end(res), (ended{heal.DryRun, "DryRun"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if got := r.writes(); len(got) > 0 || len(r.attempts()) != 1 {
		t.Errorf("sent %v", r.attempts())
	}
}

func TestADeploymentIsRestartedByOnePatch(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	pods := r.ready(r.deploy("web", "shop/api:good", 2))
	r.whole()
	r.crash(pods[0])
	sick := r.untilDeployment("short of a pod", func(d *appsv1.Deployment) bool { return d.Status.AvailableReplicas == 1 })
	d := about(sick, heal.Restart)
	event := heal.NewEvent(d, r.bus.Cluster(), "analyzer", time.Now())
	for range 3 {
		r.publishEvent(event)
	}
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.settled()
	if got := r.whole().Spec.Template.Annotations["selfheal.dev/restarted-by"]; got != d.ID {
		t.Errorf("restarted by %q, want %q", got, d.ID)
	}
	kubetest.Eventually(t, 20*time.Second, r.gone(&pods[0]))
	if diff := cmp.Diff(onePatch, changes(r.writes())); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	if got := r.told(d); got != 1 {
		t.Errorf("%d results, want 1", got)
	}
}

func TestAHalfRolledOutOrHealthyDeploymentIsNotRestarted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	r.ready(r.deploy("web", "shop/api:good", 2, impatient))
	res := r.carryOut(about(r.whole(), heal.Restart))
	if got, want := end(res), (ended{heal.Skipped, heal.ReasonRecovered}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	res = r.carryOut(about(r.rollOut("shop/api:broken"), heal.Restart))
	if got, want := end(res), (ended{heal.Rejected, "SeveralRevisions"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.noWrites()
}

func TestAChangeOfADeploymentSurvivesTheDeathOfItsActuator(t *testing.T) {
	t.Parallel()
	for strategy, points := range map[heal.Strategy][]crash.Point{
		heal.Rollback: crash.Points,
		heal.Restart:  {crash.BeforeAPI, crash.AfterAPIBeforeRecord},
	} {
		for _, at := range points {
			t.Run(string(strategy)+"/"+string(at), func(t *testing.T) {
				t.Parallel()
				r := rigOn(t, bustest.Listen(t), kubetest.Get(t))
				var sick *appsv1.Deployment
				if strategy == heal.Rollback {
					sick = r.stalled()
				} else {
					r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
					sick = r.untilDeployment("short of a pod", func(d *appsv1.Deployment) bool { return d.Status.AvailableReplicas == 1 })
				}
				r.survives(at, about(sick, strategy), verified, nil)
				if diff := cmp.Diff(onePatch, changes(r.effective())); diff != "" {
					t.Errorf("writes (-want +got):\n%s", diff)
				}
			})
		}
	}
}
