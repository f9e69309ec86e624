package actuator_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator"
)

func TestACrashLoopingPodIsEvictedOnceAndItsReplacementVerified(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	pods := r.ready(r.deploy("web", "shop/api:good", 2))
	sick := r.crash(pods[0])

	res := r.carryOut(restartOf(sick))

	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
	}
	type write struct {
		Verb, Resource, Subresource, Name, UID string
		DryRun                                 bool
		Code                                   int
	}
	var got []write
	for _, e := range r.attempts() {
		got = append(got, write{e.Verb, e.Resource, e.Subresource, e.Name, e.UID, e.DryRun, e.Code})
	}
	want := []write{
		{"create", "pods", "eviction", sick.Name, string(sick.UID), true, 201},
		{"create", "pods", "eviction", sick.Name, string(sick.UID), false, 201},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	var names []string
	for _, s := range res.Steps {
		names = append(names, s.Name+" "+s.Status)
	}
	if diff := cmp.Diff([]string{"precheck ok", "evidence ok", "evict ok", "verify ok"}, names); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
	if res.Verification == nil || !res.Verification.Passed || len(res.Verification.Checks) != 3 {
		t.Errorf("verification = %+v", res.Verification)
	}
	if !strings.HasSuffix(strings.Fields(res.Message)[0], strings.Fields(res.Verification.Checks[0].Observed)[0]) {
		t.Errorf("message %q does not name the replacement", res.Message)
	}
}

func TestARestartThatDoesNotHelpIsNotClaimed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	sick := r.until(&r.deploy("web", "shop/api:broken", 1)[0], "in a crash loop", crashLoops)

	res := r.carryOut(restartOf(sick))

	if got, want := end(res), (ended{heal.Failed, "NotFixed"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.Contains(res.Message, "CrashLoopBackOff") {
		t.Errorf("message %q does not say what was seen", res.Message)
	}
	if got := len(r.writes()); got != 1 {
		t.Errorf("%d writes, want 1", got)
	}
}

func TestAPodThatIsNotReadyIsRecreatedByADeleteOfExactlyWhatWasJudged(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		strategy heal.Strategy
		steps    []string
	}{
		{heal.Recreate, []string{"precheck", "evidence", "delete", "verify"}},
		{heal.ScaleAndReplace, []string{"precheck", "scale_and_replace", "evidence", "delete", "verify"}},
	} {
		t.Run(string(tt.strategy), func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.start(quick())
			// No disruption can be allowed here, and none is needed: the pod serves nobody.
			r.budget("web", intstr.FromInt32(1))
			sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 1))[0])

			res := r.carryOut(decide(podTarget(sick), heal.PodFailure, tt.strategy))

			if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
				t.Fatalf("ended %v, want %v: %s", got, want, res.Message)
			}
			for _, e := range r.attempts() {
				if e.Verb != "delete" || e.UID != string(sick.UID) || e.ResourceVersion == "" || e.GracePeriodSeconds != nil {
					t.Errorf("sent %s with UID %q, resourceVersion %q, grace %v", e, e.UID, e.ResourceVersion, e.GracePeriodSeconds)
				}
			}
			if got := len(r.writes()); got != 1 {
				t.Errorf("%d writes, want 1", got)
			}
			var names []string
			for _, s := range res.Steps {
				names = append(names, s.Name)
			}
			if diff := cmp.Diff(tt.steps, names); diff != "" {
				t.Errorf("steps (-want +got):\n%s", diff)
			}
		})
	}
}

// budget makes a disruption budget for the pods of a Deployment, and waits
// until Kubernetes has counted them.
func (r *rig) budget(app string, minAvailable intstr.IntOrString, names ...string) {
	r.t.Helper()
	for _, name := range append(names, app) {
		_, err := r.admin.PolicyV1().PodDisruptionBudgets(r.ns).Create(r.t.Context(), &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.ns},
			Spec: policyv1.PodDisruptionBudgetSpec{
				MinAvailable: &minAvailable, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			r.t.Fatal(err)
		}
		kubetest.Eventually(r.t, 20*time.Second, func(ctx context.Context) error {
			b, err := r.admin.PolicyV1().PodDisruptionBudgets(r.ns).Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if b.Status.ObservedGeneration == 0 {
				return fmt.Errorf("budget %s is not counted yet", name)
			}
			return nil
		})
	}
}

func TestABlockingDisruptionBudgetIsNamedAndNeverEvaded(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	pods := r.ready(r.deploy("web", "shop/api:good", 1))
	sick := r.crash(pods[0])
	r.budget("web", intstr.FromInt32(1))

	res := r.carryOut(restartOf(sick))

	if got, want := end(res), (ended{heal.Rejected, "PDB"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	for _, part := range []string{r.ns + "/web", "0 of 1 pods are healthy", "minAvailable 1", "AlwaysAllow"} {
		if !strings.Contains(res.Message, part) {
			t.Errorf("message %q does not say %q", res.Message, part)
		}
	}
	for _, e := range r.attempts() {
		if !e.DryRun || e.Subresource != "eviction" {
			t.Errorf("sent %s, want only dry runs of an eviction", e)
		}
	}
}

func TestTwoDisruptionBudgetsOnOnePodAreAMistakeToBeTold(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
	r.budget("web", intstr.FromInt32(1), "second")

	res := r.carryOut(restartOf(sick))

	if got, want := end(res), (ended{heal.Rejected, "PDBMisconfigured"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.Contains(res.Message, r.ns+"/second") || !strings.Contains(res.Message, r.ns+"/web") {
		t.Errorf("message %q does not name both budgets", res.Message)
	}
	if w := r.writes(); len(w) > 0 {
		t.Errorf("writes: %v", w)
	}
}

func TestAnythingButTheVeryPodThatWasDecidedAboutIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	sick := r.until(&r.deploy("web", "shop/api:broken", 1)[0], "in a crash loop", crashLoops)

	replaced := podTarget(sick)
	replaced.UID = "00000000-0000-4000-8000-000000000000"
	gone := podTarget(sick)
	gone.Name = "never-was"
	service := heal.Target{APIVersion: "v1", Kind: "Service", Namespace: r.ns, Name: "web", UID: "u"}
	for _, tt := range []struct {
		name string
		d    heal.Decision
		want ended
	}{
		{"another pod has its name", decide(replaced, heal.PodFailure, heal.Restart), ended{heal.Skipped, "TargetReplaced"}},
		{"another pod has its name, to be deleted", decide(replaced, heal.PodFailure, heal.Recreate), ended{heal.Skipped, "TargetReplaced"}},
		{"it is gone", decide(gone, heal.PodFailure, heal.Restart), ended{heal.Skipped, "TargetGone"}},
		{"it is not a pod", decide(service, heal.PodFailure, heal.Restart), ended{heal.Rejected, "Unsupported"}},
		{"nobody knows how", decide(podTarget(sick), heal.DeploymentFailure, heal.Rollback), ended{heal.Rejected, "Unsupported"}},
	} {
		res := r.carryOut(tt.d)
		if got := end(res); got != tt.want {
			t.Errorf("%s: ended %v, want %v: %s", tt.name, got, tt.want, res.Message)
		}
	}
	r.noWrites()
}

func TestATerminatingPodIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	pod := r.ready(r.deploy("web", "shop/api:stuck-terminating", 1))[0]
	if err := r.admin.CoreV1().Pods(r.ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	res := r.carryOut(restartOf(&pod))
	if got, want := end(res), (ended{heal.Skipped, "TargetTerminating"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.noWrites()
}

func TestAPodThatNobodyWouldReplaceIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "shop/api:broken"}}}
	bare, err := r.admin.CoreV1().Pods(r.ns).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare"}, Spec: spec}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	spec.RestartPolicy = corev1.RestartPolicyOnFailure
	if _, err := r.admin.BatchV1().Jobs(r.ns).Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: "job"}, Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: spec}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var ofJob *corev1.Pod
	kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
		list, err := r.admin.CoreV1().Pods(r.ns).List(ctx, metav1.ListOptions{LabelSelector: "job-name=job"})
		if err != nil || len(list.Items) == 0 {
			return fmt.Errorf("no pod of the job: %w", err)
		}
		ofJob = &list.Items[0]
		return nil
	})
	for _, tt := range []struct {
		pod  *corev1.Pod
		want ended
	}{
		{bare, ended{heal.Rejected, "BarePod"}},
		{ofJob, ended{heal.Rejected, "JobPod"}},
	} {
		r.until(tt.pod, "in a crash loop", crashLoops)
		res := r.carryOut(decide(podTarget(tt.pod), heal.PodFailure, heal.Recreate))
		if got := end(res); got != tt.want {
			t.Errorf("%s: ended %v, want %v: %s", tt.pod.Name, got, tt.want, res.Message)
		}
	}
	r.noWrites()
}

func TestMarksOfPeopleStopIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	sick := r.until(&r.deploy("web", "shop/api:broken", 1)[0], "in a crash loop", crashLoops)

	mark := func(kind, key, value string) {
		t.Helper()
		v := fmt.Sprintf("%q", value)
		if value == "" {
			v = "null"
		}
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, key, v)
		var err error
		switch kind {
		case "Pod":
			_, err = r.admin.CoreV1().Pods(r.ns).Patch(t.Context(), sick.Name, types.MergePatchType, patch, metav1.PatchOptions{})
		case "Deployment":
			_, err = r.admin.AppsV1().Deployments(r.ns).Patch(t.Context(), "web", types.MergePatchType, patch, metav1.PatchOptions{})
		case "Namespace":
			_, err = r.admin.CoreV1().Namespaces().Patch(t.Context(), r.ns, types.MergePatchType, patch, metav1.PatchOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		kind, key, value string
		want             string
	}{
		{"Pod", heal.AnnotationMode, "observe", "MarkedObserve"},
		{"Pod", heal.AnnotationHoldUntil, time.Now().Add(time.Hour).Format(time.RFC3339), "Held"},
		{"Deployment", heal.AnnotationMode, "off", "MarkedOff"},
		{"Deployment", heal.AnnotationMode, "Auto", "MarkedOff"},
		{"Namespace", heal.AnnotationHoldUntil, "tomorrow", "Held"},
	} {
		mark(tt.kind, tt.key, tt.value)
		res := r.carryOut(restartOf(sick))
		if got, want := end(res), (ended{heal.Rejected, tt.want}); got != want {
			t.Errorf("%s %s=%s: ended %v, want %v: %s", tt.kind, tt.key, tt.value, got, want, res.Message)
		}
		if !strings.Contains(res.Message, tt.kind+"/") {
			t.Errorf("%s %s=%s: message %q does not say what carries the mark", tt.kind, tt.key, tt.value, res.Message)
		}
		mark(tt.kind, tt.key, "")
	}
	r.noWrites()
}

func TestADecisionThatComesAtTheWrongTimeIsRefusedUnread(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sick := r.until(&r.deploy("web", "shop/api:broken", 1)[0], "in a crash loop", crashLoops)
	expired := restartOf(sick)
	expired.Expires = time.Now().Add(-12 * time.Second)
	future := restartOf(sick)
	future.Expires = time.Now().Add(time.Hour)
	event := heal.NewEvent(future, r.bus.Cluster(), "analyzer", time.Now().Add(time.Minute))
	r.publish(expired)
	r.publishEvent(event)
	r.start(quick())

	for _, tt := range []struct {
		d    heal.Decision
		want ended
	}{
		{expired, ended{heal.Rejected, "Expired"}},
		{future, ended{heal.Rejected, "ClockSkew"}},
	} {
		res := r.result(tt.d, 30*time.Second)
		if got := end(res); got != tt.want {
			t.Errorf("ended %v, want %v: %s", got, tt.want, res.Message)
		}
	}
	for _, e := range r.cluster.Audit(t) {
		if e.UserAgent == r.agent && e.Namespace == r.ns {
			t.Errorf("asked the API server: %s", e)
		}
	}
}

func TestADecisionThatAsksForNothingChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	observing := newRig(t)
	cfg := quick()
	cfg.Mode = heal.ModeObserve
	observing.start(cfg)
	target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: r.ns, Name: "web", UID: "u"}
	with := func(change func(*heal.Decision)) heal.Decision {
		d := decide(target, heal.PodFailure, heal.Restart)
		change(&d)
		return d
	}
	for _, tt := range []struct {
		name string
		r    *rig
		d    heal.Decision
		want ended
	}{
		{"monitor", r, with(func(d *heal.Decision) { d.Strategy, d.Reason = heal.Monitor, heal.ReasonRecoveryUnderWay }), ended{heal.Skipped, heal.ReasonRecoveryUnderWay}},
		{"mode observe", r, with(func(d *heal.Decision) { d.Mode = heal.ModeObserve }), ended{heal.Skipped, "ModeObserve"}},
		{"mode observe, with a reason", r, with(func(d *heal.Decision) { d.Mode, d.Reason = heal.ModeObserve, "NamespaceObserved" }), ended{heal.Skipped, "NamespaceObserved"}},
		{"mode off", r, with(func(d *heal.Decision) { d.Mode = heal.ModeOff }), ended{heal.Skipped, "ModeOff"}},
		{"vetoed", r, with(func(d *heal.Decision) {
			d.Guards = []heal.Verdict{{Name: "storm", Reason: "Storm", Detail: "9 of 10 nodes are unhealthy"}}
		}), ended{heal.Rejected, "Storm"}},
		{"the actuator only observes", observing, with(func(*heal.Decision) {}), ended{heal.Skipped, "ModeObserve"}},
	} {
		if got := end(tt.r.carryOut(tt.d)); got != tt.want {
			t.Errorf("%s: ended %v, want %v", tt.name, got, tt.want)
		}
	}
	r.noWrites()
	observing.noWrites()
}

func TestADryRunOnlyTries(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.DryRun = true
	r.start(cfg)
	sick := r.until(&r.deploy("web", "shop/api:broken", 1)[0], "in a crash loop", crashLoops)
	for strategy, step := range map[heal.Strategy]string{heal.Restart: "evict", heal.Recreate: "delete"} {
		res := r.carryOut(decide(podTarget(sick), heal.PodFailure, strategy))
		if got, want := end(res), (ended{heal.DryRun, "DryRun"}); got != want || !res.DryRun {
			t.Errorf("%s: ended %v, dry_run %v, want %v: %s", strategy, got, res.DryRun, want, res.Message)
		}
		if len(res.Steps) != 1 || res.Steps[0].Name != step {
			t.Errorf("%s: steps %+v", strategy, res.Steps)
		}
	}
	for _, e := range r.attempts() {
		if !e.DryRun {
			t.Errorf("sent %s", e)
		}
	}
	if got := len(r.attempts()); got != 2 {
		t.Errorf("%d dry runs, want 2", got)
	}
}

func TestADecisionThatComesAgainAndAgainIsCarriedOutOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 3 {
		r.start(quick())
	}
	sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
	d := restartOf(sick)
	event := heal.NewEvent(d, r.bus.Cluster(), "analyzer", time.Now())
	for range 10 {
		r.publishEvent(event)
	}
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.settled()
	r.publishEvent(event)
	r.settled()
	if got := r.told(d); got != 1 {
		t.Errorf("%d results, want 1", got)
	}
	if got := r.writes(); len(got) != 1 {
		t.Errorf("writes %v, want 1", got)
	}
}

func TestTwoDecisionsAboutOnePodActOnItOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for range 2 {
		r.start(quick())
	}
	sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
	both := []heal.Decision{restartOf(sick), decide(podTarget(sick), heal.PodFailure, heal.Recreate)}
	for _, d := range both {
		r.publish(d)
	}
	succeeded := 0
	for _, d := range both {
		switch res := r.result(d, time.Minute); res.Outcome {
		case heal.Succeeded:
			succeeded++
		case heal.Skipped: // AlreadyActedOn, TargetTerminating or TargetGone, by how far the first one was
		default:
			t.Errorf("ended %v: %s", end(res), res.Message)
		}
	}
	if got := r.writes(); len(got) != 1 || succeeded != 1 {
		t.Errorf("%d succeeded, writes %v, want one of each", succeeded, got)
	}
}

func TestOverTheBudgetADecisionWaitsOrIsRefusedWithTheNumbers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.MaxPodActionsNamespace = 2
	r.start(cfg)
	r.start(cfg) // the budget is shared
	pods := r.deploy("web", "shop/api:broken", 4)
	var all []heal.Decision
	for i := range pods {
		d := restartOf(r.until(&pods[i], "in a crash loop", crashLoops))
		d.Expires = time.Now().Add(20 * time.Second)
		all = append(all, d)
	}
	for _, d := range all {
		r.publish(d)
	}
	outcomes := map[string]int{}
	for _, d := range all {
		res := r.result(d, time.Minute)
		outcomes[res.Reason]++
		if res.Reason == "Budget" && !strings.Contains(res.Message, "2 pods of namespace "+r.ns) {
			t.Errorf("message %q does not say the numbers", res.Message)
		}
	}
	if diff := cmp.Diff(map[string]int{"NotFixed": 2, "Budget": 2}, outcomes); diff != "" {
		t.Errorf("reasons (-want +got):\n%s", diff)
	}
	if got := len(r.writes()); got != 2 {
		t.Errorf("%d writes, want 2", got)
	}
}

func TestWhatIsUnderWayGoesOnInAnotherProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.VerifyWindow = 5 * time.Second
	stop := r.start(cfg)
	sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
	d := restartOf(sick)
	r.publish(d)
	kubetest.Eventually(t, 20*time.Second, r.gone(sick))

	began := time.Now()
	stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("stopping took %s", took)
	}
	r.start(cfg)

	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if res.Attempt < 2 {
		t.Errorf("attempt %d, want the second or later", res.Attempt)
	}
	if got := r.writes(); len(got) != 1 {
		t.Errorf("writes %v, want 1", got)
	}
}

func TestAWorkloadThatIsScaledDownMeanwhileNeedsNoReplacement(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	pods := r.ready(r.deploy("web", "shop/api:good", 1))
	sick := r.crash(pods[0])
	// A quota keeps the controller from making another one.
	if _, err := r.admin.CoreV1().ResourceQuotas(r.ns).Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "none"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: *zero()}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	d := restartOf(sick)
	r.publish(d)
	kubetest.Eventually(t, 20*time.Second, r.gone(sick))
	if _, err := r.admin.AppsV1().Deployments(r.ns).Patch(t.Context(), "web", types.MergePatchType, []byte(`{"spec":{"replicas":0}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	res := r.result(d, time.Minute)
	if got, want := end(res), (ended{heal.Skipped, "NoLongerWanted"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
}

func TestAReplacementThatNeverGetsReadyIsNeitherSuccessNorFailure(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	cfg := quick()
	cfg.RecoveryTimeout = 5 * time.Second
	r.start(cfg)
	pods := r.deploy("web", "shop/api:unready", 1)
	sick := r.crash(pods[0])
	res := r.carryOut(restartOf(sick))
	if got, want := end(res), (ended{heal.TimedOut, "VerificationTimedOut"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if res.Verification == nil || res.Verification.Passed {
		t.Errorf("verification = %+v", res.Verification)
	}
}

func TestAStatefulSetsPodIsVerifiedUnderItsOldName(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(quick())
	labels := map[string]string{"app": "db"}
	replicas := int32(2)
	if _, err := r.admin.AppsV1().StatefulSets(r.ns).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec: appsv1.StatefulSetSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{
			ObjectMeta: metav1.ObjectMeta{Labels: labels},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "shop/db:good"}}},
		}},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	var pod *corev1.Pod
	kubetest.Eventually(t, 30*time.Second, func(ctx context.Context) (err error) {
		pod, err = r.admin.CoreV1().Pods(r.ns).Get(ctx, "db-1", metav1.GetOptions{})
		if err == nil && !isReady(pod) {
			err = fmt.Errorf("db-1 is not Ready")
		}
		return err
	})
	res := r.carryOut(restartOf(r.crash(*pod)))
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	if !strings.HasPrefix(res.Message, "db-1 is Ready") {
		t.Errorf("message = %q", res.Message)
	}
}

func TestTheRulesNameWhatIsUsedAndNothingDangerous(t *testing.T) {
	t.Parallel()
	got := map[string]string{}
	for _, rule := range actuator.Rules() {
		for _, resource := range rule.Resources {
			got[strings.TrimPrefix(rule.APIGroups[0]+"/"+resource, "/")] = strings.Join(rule.Verbs, ",")
		}
	}
	want := map[string]string{
		"pods": "delete,get,list,watch", "pods/eviction": "create", "nodes": "get,list,patch,watch",
		"namespaces": "get,watch", "replicationcontrollers": "get", "events.k8s.io/events": "create",
		"apps/deployments": "get,list,patch", "apps/replicasets": "get,list", "configmaps": "get", "apps/statefulsets": "get,patch", "apps/daemonsets": "get,patch",
		"apps/controllerrevisions": "get,list",
		"batch/jobs":               "get", "policy/poddisruptionbudgets": "list",

		"pods/resize": "patch", "metrics.k8s.io/pods": "get", "persistentvolumeclaims": "get,patch", "storage.k8s.io/storageclasses": "get",
		"autoscaling/horizontalpodautoscalers": "get,list,patch", "keda.sh/scaledobjects": "get,patch",

		"cluster.x-k8s.io/clusters": "get", "cluster.x-k8s.io/machinehealthchecks": "list", "cluster.x-k8s.io/machines": "delete,get",
		"karpenter.sh/nodeclaims": "delete,get", "services": "get,patch", "discovery.k8s.io/endpointslices": "list,watch",
		"events": "list", "pods/log": "get",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	for _, verbs := range slices.Collect(maps.Values(got)) {
		if strings.Contains(verbs, "deletecollection") || strings.Contains(verbs, "*") {
			t.Errorf("verbs %s", verbs)
		}
	}
}
