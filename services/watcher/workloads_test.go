package watcher_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// workloads is a control plane on which workloads fail as they do in life.
// What must last for minutes before it counts is not waited for: it is shown
// that the detectors find it in what Kubernetes' own controllers write.
type workloads struct {
	kubernetes.Interface
	rest *rest.Config
	ns   string
}

const workloadPatience = 2 * time.Minute

func TestWorkloadsFailAsKubernetesItselfTellsIt(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a control plane")
	}
	starting, cancel := context.WithTimeout(t.Context(), workloadPatience)
	defer cancel()
	cluster, err := kubetest.Start(starting, kubetest.Options{Nodes: 3, Args: []string{"--backoff-base=100ms", "--backoff-cap=1s"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	rest, err := cluster.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	client := cluster.Client(t)
	for name, test := range map[string]func(*testing.T, *workloads){
		"a stateful set waits for a pod of its roll-out":  stalledStatefulSet,
		"a daemon set waits for a pod of its roll-out":    stalledDaemonSet,
		"a quota refuses pods of a deployment":            refusedDeployment,
		"a job gives up, which is told at once":           failedJob,
		"an autoscaler has no metrics":                    blindAutoscaler,
		"a disruption budget that is too strict":          strictBudget,
		"a deployment whose service account is not there": accountlessDeployment,
	} {
		ns := cluster.Namespace(t)
		t.Run(name, func(t *testing.T) { test(t, &workloads{Interface: client, rest: rest, ns: ns}) })
	}
}

func stalledStatefulSet(t *testing.T, w *workloads) {
	three := int32(3)
	sets := w.AppsV1().StatefulSets(w.ns)
	_, err := sets.Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: "db"},
		Spec:       appsv1.StatefulSetSpec{Replicas: &three, Selector: selectorOf("db"), Template: templateOf("db", "shop/db:good")},
	}, metav1.CreateOptions{})
	get := func() (*appsv1.StatefulSet, error) { return sets.Get(t.Context(), "db", metav1.GetOptions{}) }
	w.until(t, err, checked(get, func(s *appsv1.StatefulSet) error {
		return want(s.Status.ReadyReplicas == 3 && s.Status.CurrentRevision == s.Status.UpdateRevision, "ready", s.Status)
	}))
	spoken(t, detect.StatefulSets, get)

	_, err = sets.Patch(t.Context(), "db", types.StrategicMergePatchType, image("shop/db:unready"), metav1.PatchOptions{})
	w.until(t, err, checked(get, func(s *appsv1.StatefulSet) error {
		return want(s.Status.ReadyReplicas == 2 && s.Status.UpdatedReplicas == 1, "waiting for its last pod", s.Status)
	}))
	spoken(t, detect.StatefulSets, get, "statefulset_stalled RolloutStalled")

	_, err = sets.Patch(t.Context(), "db", types.StrategicMergePatchType, image("shop/db:good"), metav1.PatchOptions{})
	if err == nil { // Kubernetes waits for the broken pod even now
		err = w.CoreV1().Pods(w.ns).Delete(t.Context(), "db-2", metav1.DeleteOptions{})
	}
	w.until(t, err, checked(get, func(s *appsv1.StatefulSet) error {
		return want(s.Status.ReadyReplicas == 3 && s.Status.CurrentRevision == s.Status.UpdateRevision, "ready again", s.Status)
	}))
	spoken(t, detect.StatefulSets, get)
}

func stalledDaemonSet(t *testing.T, w *workloads) {
	sets := w.AppsV1().DaemonSets(w.ns)
	_, err := sets.Create(t.Context(), &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Name: "agent"},
		Spec:       appsv1.DaemonSetSpec{Selector: selectorOf("agent"), Template: templateOf("agent", "shop/agent:good")},
	}, metav1.CreateOptions{})
	get := func() (*appsv1.DaemonSet, error) { return sets.Get(t.Context(), "agent", metav1.GetOptions{}) }
	w.until(t, err, checked(get, func(d *appsv1.DaemonSet) error {
		return want(d.Status.NumberAvailable == 3 && d.Status.UpdatedNumberScheduled == 3, "available", d.Status)
	}))
	spoken(t, detect.DaemonSets, get)

	_, err = sets.Patch(t.Context(), "agent", types.StrategicMergePatchType, image("shop/agent:broken"), metav1.PatchOptions{})
	w.until(t, err, checked(get, func(d *appsv1.DaemonSet) error {
		return want(d.Status.NumberUnavailable == 1 && d.Status.UpdatedNumberScheduled == 1, "waiting for its first pod", d.Status)
	}))
	spoken(t, detect.DaemonSets, get, "daemonset_stalled RolloutStalled")
}

func refusedDeployment(t *testing.T, w *workloads) {
	_, err := w.CoreV1().ResourceQuotas(w.ns).Create(t.Context(), &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "few"},
		Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("2")}},
	}, metav1.CreateOptions{})
	w.until(t, err, func(ctx context.Context) error { // it is enforced once it has been counted
		q, err := w.CoreV1().ResourceQuotas(w.ns).Get(ctx, "few", metav1.GetOptions{})
		if err != nil {
			return err
		}
		return want(len(q.Status.Used) > 0, "counted", q.Status)
	})
	f := w.refused(t, "default")
	if f.Metadata["refused_by"] != "quota" || f.Metadata["refused_by_name"] != "few" || f.Metadata["available"] != "2" {
		t.Errorf("found %+v, want pods refused by quota few, and two of three available", f)
	}
}

func accountlessDeployment(t *testing.T, w *workloads) {
	f := w.refused(t, "robot")
	if f.Metadata["refused_by"] != "service_account" || f.Metadata["refused_by_name"] != "robot" {
		t.Errorf("found %+v, want pods refused for want of service account robot", f)
	}
}

// refused creates a deployment of three and returns what is found of it.
func (w *workloads) refused(t *testing.T, account string) detect.Finding {
	t.Helper()
	three := int32(3)
	template := templateOf("web", "shop/web:good")
	template.Spec.ServiceAccountName = account
	deployments := w.AppsV1().Deployments(w.ns)
	_, err := deployments.Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: &three, Selector: selectorOf("web"), Template: template},
	}, metav1.CreateOptions{})
	get := func() (*appsv1.Deployment, error) { return deployments.Get(t.Context(), "web", metav1.GetOptions{}) }
	var found []detect.Finding
	w.until(t, err, checked(get, func(d *appsv1.Deployment) error {
		found = nil
		for _, det := range detect.Deployments {
			if det.Name == "replicas_refused" {
				found = det.Find(d, detect.Facts{Now: time.Now()})
			}
		}
		serves := account != "default" || d.Status.AvailableReplicas == 2
		return want(len(found) == 1 && serves && d.Status.ObservedGeneration == d.Generation, "refused pods", d.Status)
	}))
	spoken(t, detect.Deployments, get, "replicas_refused FailedCreate")
	return found[0]
}

// failedJob goes all the way: what it finds counts at once.
func failedJob(t *testing.T, w *workloads) {
	server := bustest.Start(t)
	events := read(t, server)
	run(t, slow, w.rest, server.Bus(t, "watcher"))
	jobOf := func(image string) batchv1.JobSpec {
		one := int32(1)
		template := templateOf("pay", image)
		template.Spec.RestartPolicy = corev1.RestartPolicyNever
		return batchv1.JobSpec{BackoffLimit: &one, Template: template}
	}
	for name, image := range map[string]string{"pays": "shop/pay:complete", "fails": "shop/pay:exit-3"} {
		if _, err := w.BatchV1().Jobs(w.ns).Create(t.Context(), &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: jobOf(image)}, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	told := func(resolved bool) heal.Failure {
		var found heal.Failure
		kubetest.Eventually(t, workloadPatience, func(context.Context) error {
			for _, f := range events.all() {
				if f.Detector == "job_failed" && f.Namespace == w.ns && f.Resolved() == resolved {
					found = f
					return nil
				}
			}
			return fmt.Errorf("nothing is told of the job among %d events", len(events.all()))
		})
		return found
	}
	if f := told(false); f.Reason != "BackoffLimitExceeded" || f.Type != heal.DeploymentFailure || f.Target.Kind != "Job" || f.Target.Name != "fails" {
		t.Errorf("event = %+v, want that job fails has failed", f)
	}
	background := metav1.DeletePropagationBackground
	for _, name := range []string{"pays", "fails"} {
		if err := w.BatchV1().Jobs(w.ns).Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
			t.Fatal(err)
		}
	}
	if f := told(true); f.Target.Name != "fails" {
		t.Errorf("event = %+v, want the end of job fails", f)
	}
	for _, f := range events.all() {
		if f.Target.Name == "pays" {
			t.Errorf("event about a job that succeeded: %+v", f)
		}
	}
}

func blindAutoscaler(t *testing.T, w *workloads) {
	two := int32(2)
	_, err := w.AppsV1().Deployments(w.ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: &two, Selector: selectorOf("web"), Template: templateOf("web", "shop/web:good")},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	half := int32(50)
	autoscalers := w.AutoscalingV2().HorizontalPodAutoscalers(w.ns)
	_, err = autoscalers.Create(t.Context(), &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "web"}, MaxReplicas: 4,
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &half},
			}}},
		},
	}, metav1.CreateOptions{})
	get := func() (*autoscalingv2.HorizontalPodAutoscaler, error) {
		return autoscalers.Get(t.Context(), "web", metav1.GetOptions{})
	}
	w.until(t, err, checked(get, func(a *autoscalingv2.HorizontalPodAutoscaler) error {
		for _, c := range a.Status.Conditions {
			if c.Type == autoscalingv2.ScalingActive && c.Status == corev1.ConditionFalse {
				return nil
			}
		}
		return want(false, "without metrics", a.Status)
	}))
	spoken(t, detect.Autoscalers, get, "autoscaler_blind FailedGetResourceMetric")
}

func strictBudget(t *testing.T, w *workloads) {
	two, all := int32(2), intstr.FromString("100%")
	_, err := w.AppsV1().Deployments(w.ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       appsv1.DeploymentSpec{Replicas: &two, Selector: selectorOf("web"), Template: templateOf("web", "shop/web:good")},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	budgets := w.PolicyV1().PodDisruptionBudgets(w.ns)
	_, err = budgets.Create(t.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &all, Selector: selectorOf("web")},
	}, metav1.CreateOptions{})
	get := func() (*policyv1.PodDisruptionBudget, error) {
		return budgets.Get(t.Context(), "web", metav1.GetOptions{})
	}
	w.until(t, err, checked(get, func(b *policyv1.PodDisruptionBudget) error {
		return want(b.Status.CurrentHealthy == 2 && b.Status.DesiredHealthy == 2, "strict", b.Status)
	}))
	spoken(t, detect.Budgets, get) // nothing is drained
	b, err := get()
	if err != nil {
		t.Fatal(err)
	}
	var found []detect.Finding
	for _, d := range detect.Budgets {
		found = append(found, d.Find(b, detect.Facts{Now: time.Now(), Held: []detect.Held{{Pod: "web-1", Node: "node-1", Ready: true}}})...)
	}
	if len(found) != 1 || found[0].Reason != "DrainBlocked" || found[0].Metadata["why"] != "too_strict" {
		t.Errorf("found %+v while a pod of it is held, want a drain held up by a budget that is too strict", found)
	}
}

// until waits for check, unless what leads there has failed already.
func (w *workloads) until(t *testing.T, err error, check func(context.Context) error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, workloadPatience, check)
}

// checked is a check of what get gets.
func checked[T any](get func() (T, error), check func(T) error) func(context.Context) error {
	return func(context.Context) error {
		obj, err := get()
		if err != nil {
			return err
		}
		return check(obj)
	}
}

func want(ok bool, what string, status any) error {
	if ok {
		return nil
	}
	return fmt.Errorf("not %s: %+v", what, status)
}

// spoken compares who speaks of an object, and with what reason.
func spoken[T any](t *testing.T, list []detect.Detector[T], get func() (T, error), want ...string) {
	t.Helper()
	obj, err := get()
	if err != nil {
		t.Fatal(err)
	}
	facts := detect.Facts{Now: time.Now(), CronJobKnown: true}
	var got []string
	for _, d := range list {
		for _, f := range d.Find(obj, facts) {
			if d.Excuse(obj, facts) == detect.None {
				got = append(got, d.Name+" "+f.Reason)
			}
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q speak, want %q", got, want)
	}
}

func selectorOf(app string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}
}

func templateOf(app, image string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Image: image,
			Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("10m")}},
		}}},
	}
}

func image(name string) []byte {
	return fmt.Appendf(nil, `{"spec":{"template":{"spec":{"containers":[{"name":"app","image":%q}]}}}}`, name)
}
