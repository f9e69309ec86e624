package watcher_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

func newService(name string, selector map[string]string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Selector: selector, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}}},
	}
}

func (c *churn) service(ctx context.Context, s *corev1.Service) error {
	return unlessExists(c.kube.CoreV1().Services(c.ns).Create(ctx, s, metav1.CreateOptions{}))
}

// reaches waits until so many endpoints of a service are ready.
func (c *churn) reaches(ctx context.Context, name string, want int) error {
	return wait(ctx, func() error {
		list, err := c.kube.DiscoveryV1().EndpointSlices(c.ns).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + name})
		if err != nil {
			return err
		}
		ready := 0
		for _, slice := range list.Items {
			for _, e := range slice.Endpoints {
				if e.Conditions.Ready != nil && *e.Conditions.Ready {
					ready++
				}
			}
		}
		if ready < want {
			return fmt.Errorf("service %s has %d ready endpoints, want %d", name, ready, want)
		}
		return nil
	})
}

// serveLater makes a service before its pods, and takes it away after them.
func (c *churn) serveLater(ctx context.Context, round int) error {
	name := fmt.Sprint("late-", round)
	if err := c.service(ctx, newService(name, map[string]string{"app": name})); err != nil {
		return err
	}
	c.linger(ctx, time.Minute) // longer than a service may reach nothing that once did
	if err := c.deploy(ctx, name, 2); err != nil {
		return err
	}
	if err := c.reaches(ctx, name, 2); err != nil {
		return err
	}
	if err := c.remove(ctx, c.apps("deployments", name)); err != nil {
		return err
	}
	return c.remove(ctx, c.core("services", name))
}

func (c *churn) switchService(ctx context.Context, round int) error {
	for _, colour := range []string{"blue", "green"} {
		if err := c.deploy(ctx, colour, 2); err != nil {
			return err
		}
	}
	if err := c.service(ctx, newService("front", map[string]string{"app": "blue"})); err != nil {
		return err
	}
	colour := []string{"green", "blue"}[round%2]
	if err := c.patch(ctx, c.core("services", "front"), fmt.Sprintf(`{"spec":{"selector":{"app":%q}}}`, colour)); err != nil {
		return err
	}
	if err := c.rollTo(ctx, map[string]string{"green": "blue", "blue": "green"}[colour], fmt.Sprint("shop/api:v", round)); err != nil {
		return err
	}
	return c.reaches(ctx, "front", 2)
}

// restService has a service whose workload is scaled to zero for a while.
func (c *churn) restService(ctx context.Context, _ int) error {
	if err := c.deploy(ctx, "nightly", 2); err != nil {
		return err
	}
	if err := c.service(ctx, newService("nightly", map[string]string{"app": "nightly"})); err != nil {
		return err
	}
	if err := c.reaches(ctx, "nightly", 2); err != nil {
		return err
	}
	for _, replicas := range []int{0, 2} {
		if err := c.patchDeployment(ctx, "nightly", fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)); err != nil {
			return err
		}
		if err := c.complete(ctx, "nightly"); err != nil {
			return err
		}
		c.linger(ctx, time.Minute)
	}
	return nil
}

// oddServices are those that have no ready endpoint, and need none.
func (c *churn) oddServices(ctx context.Context, round int) error {
	nobody := map[string]string{"app": "nobody"}
	headless, elsewhere, byHand := newService("headless", nobody), newService("elsewhere", nil), newService("by-hand", nil)
	headless.Spec.ClusterIP = corev1.ClusterIPNone
	elsewhere.Spec.Type, elsewhere.Spec.ExternalName = corev1.ServiceTypeExternalName, "db.example.com"
	early := newService("early", nobody)
	early.Spec.PublishNotReadyAddresses = true
	for _, s := range []*corev1.Service{headless, elsewhere, byHand, early} {
		if err := c.service(ctx, s); err != nil {
			return err
		}
	}
	c.linger(ctx, time.Duration(round)*time.Minute)
	for _, name := range []string{"headless", "elsewhere", "by-hand", "early"} {
		if err := c.remove(ctx, c.core("services", name)); err != nil {
			return err
		}
	}
	return nil
}

// balanceLater gives a service its load balancer after a moment, as clouds do.
func (c *churn) balanceLater(ctx context.Context, round int) error {
	name := fmt.Sprint("public-", round)
	if err := c.deploy(ctx, "public", 2); err != nil {
		return err
	}
	s := newService(name, map[string]string{"app": "public"})
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	if err := c.service(ctx, s); err != nil {
		return err
	}
	c.linger(ctx, 30*time.Second)
	given := []byte(`{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}`)
	if _, err := c.kube.CoreV1().Services(c.ns).Patch(ctx, name, types.MergePatchType, given, metav1.PatchOptions{}, "status"); err != nil {
		return err
	}
	if err := c.reaches(ctx, name, 2); err != nil {
		return err
	}
	return c.remove(ctx, c.core("services", name))
}

// hook has a webhook before there is who answers it, which then is rolled out,
// and taken away after it. It is asked about nothing that exists.
func (c *churn) hook(ctx context.Context, round int) error {
	name := fmt.Sprint("policy-", round)
	hooks := c.kube.AdmissionregistrationV1().ValidatingWebhookConfigurations()
	none := admissionv1.SideEffectClassNone
	_, err := hooks.Create(ctx, &admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "policy.example.com", SideEffects: &none, AdmissionReviewVersions: []string{"v1"},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"policed": "yes"}},
			ClientConfig:      admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: c.ns, Name: name}},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	c.linger(ctx, time.Minute)
	if err := c.service(ctx, newService(name, map[string]string{"app": name})); err != nil {
		return err
	}
	if err := c.deploy(ctx, name, 2); err != nil {
		return err
	}
	if err := c.rollTo(ctx, name, fmt.Sprint("shop/policy:v", round)); err != nil {
		return err
	}
	if err := hooks.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return err
	}
	if err := c.remove(ctx, c.core("services", name)); err != nil {
		return err
	}
	return c.remove(ctx, c.apps("deployments", name))
}

// deleteNamespace deletes a namespace with something of everything in it, and
// a pod that keeps it from going for a while.
func (c *churn) deleteNamespace(ctx context.Context, round int) error {
	c = c.in(fmt.Sprint("preview-", round))
	if err := c.namespace(ctx, c.ns); err != nil {
		return err
	}
	held := churnPod("held", "good", nil)
	held.Finalizers = []string{"example.com/hold"}
	if _, err := c.kube.CoreV1().Pods(c.ns).Create(ctx, held, metav1.CreateOptions{}); err != nil {
		return err
	}
	gated := churnPod("gated", "good", nil)
	gated.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/quota"}}
	if _, err := c.kube.CoreV1().Pods(c.ns).Create(ctx, gated, metav1.CreateOptions{}); err != nil {
		return err
	}
	two := intstr.FromInt32(2)
	_, err := c.kube.PolicyV1().PodDisruptionBudgets(c.ns).Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &two, Selector: selectorOf("web")},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	for _, make := range []func() error{
		func() error { return c.deploy(ctx, "web", 2) },
		func() error { return c.service(ctx, newService("web", map[string]string{"app": "web"})) },
		func() error { return c.reaches(ctx, "web", 2) },
		func() error { return c.stateful(ctx, "db") },
		func() error { return c.daemons(ctx, "agent") },
		func() error { return c.scaler(ctx, "web", 1, 3) },
		func() error { return c.deadlineJob(ctx, round) },
		func() error { return c.kube.CoreV1().Namespaces().Delete(ctx, c.ns, metav1.DeleteOptions{}) },
	} {
		if err := make(); err != nil {
			return err
		}
	}
	c.linger(ctx, time.Minute)
	if err := c.patch(ctx, c.core("pods", "held"), `{"metadata":{"finalizers":null}}`); err != nil {
		return err
	}
	return wait(ctx, func() error {
		return stillThere(c.kube.CoreV1().Namespaces().Get(ctx, c.ns, metav1.GetOptions{}))
	})
}

// scaler makes an autoscaler of a deployment, unless it is there.
func (c *churn) scaler(ctx context.Context, name string, least, most int32) error {
	half, none := int32(50), int32(0)
	return unlessExists(c.kube.AutoscalingV2().HorizontalPodAutoscalers(c.ns).Create(ctx, &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: name},
			MinReplicas:    &least, MaxReplicas: most,
			Behavior: &autoscalingv2.HorizontalPodAutoscalerBehavior{ScaleDown: &autoscalingv2.HPAScalingRules{StabilizationWindowSeconds: &none}},
			Metrics: []autoscalingv2.MetricSpec{{Type: autoscalingv2.ResourceMetricSourceType, Resource: &autoscalingv2.ResourceMetricSource{
				Name: corev1.ResourceCPU, Target: autoscalingv2.MetricTarget{Type: autoscalingv2.UtilizationMetricType, AverageUtilization: &half},
			}}},
		},
	}, metav1.CreateOptions{}))
}

// autoscale has one autoscaler follow the load, and one that may not scale and
// is at its limit all the time.
func (c *churn) autoscale(ctx context.Context, round int) error {
	for name, most := range map[string]int32{"elastic": 4, "rigid": 1} {
		if err := c.deploy(ctx, name, 1); err != nil {
			return err
		}
		if err := c.scaler(ctx, name, 1, most); err != nil {
			return err
		}
	}
	for _, load := range []int64{9, 1} { // of the 10m that each pod asks for, as if it were one pod's
		c.load.Store(load)
		err := c.upTo(ctx, func() error {
			d, err := c.kube.AppsV1().Deployments(c.ns).Get(ctx, "elastic", metav1.GetOptions{})
			if err == nil && (load > 5) != (d.Status.ReadyReplicas > 1) {
				err = fmt.Errorf("%d replicas of elastic, with a load of %dm", d.Status.ReadyReplicas, load)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// serveMetrics has an aggregated API tell what is used: little of every node,
// and what load says of every pod.
func serveMetrics(t *testing.T, kube kubernetes.Interface, load *atomic.Int64) {
	t.Helper()
	const group, path = "metrics.k8s.io", "/apis/metrics.k8s.io/v1beta1"
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var answer any
		switch what, inNamespace := strings.CutPrefix(r.URL.Path, path+"/namespaces/"); {
		case inNamespace:
			answer = podMetrics(r, kube, strings.TrimSuffix(what, "/pods"), load.Load())
		case r.URL.Path == path+"/pods":
			answer = podMetrics(r, kube, metav1.NamespaceAll, load.Load())
		case r.URL.Path == path+"/nodes":
			answer = map[string]any{"kind": "NodeMetricsList", "apiVersion": group + "/v1beta1", "items": []any{}}
		case r.URL.Path == path:
			answer = metav1.APIResourceList{
				TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: group + "/v1beta1",
				APIResources: []metav1.APIResource{
					{Name: "pods", Kind: "PodMetrics", Namespaced: true, Verbs: metav1.Verbs{"get", "list"}},
					{Name: "nodes", Kind: "NodeMetrics", Verbs: metav1.Verbs{"get", "list"}},
				},
			}
		default:
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(server.Close)

	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.ParseInt(at.Port(), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	s := newService("metrics-server", nil)
	s.Spec.Type, s.Spec.ExternalName, s.Spec.Ports[0].Port = corev1.ServiceTypeExternalName, "localhost", int32(port)
	if _, err := kube.CoreV1().Services(metav1.NamespaceSystem).Create(t.Context(), s, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	body := fmt.Sprintf(`{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"v1beta1.%s"},"spec":{`+
		`"group":%q,"version":"v1beta1","groupPriorityMinimum":100,"versionPriority":100,"insecureSkipTLSVerify":true,`+
		`"service":{"namespace":"kube-system","name":"metrics-server","port":%d}}}`, group, group, port)
	err = kube.CoreV1().RESTClient().Post().AbsPath("/apis/apiregistration.k8s.io/v1/apiservices").
		SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(t.Context()).Error()
	if err != nil {
		t.Fatal(err)
	}
}

func podMetrics(r *http.Request, kube kubernetes.Interface, namespace string, load int64) any {
	items := []any{}
	pods, err := kube.CoreV1().Pods(namespace).List(r.Context(), metav1.ListOptions{LabelSelector: r.URL.Query().Get("labelSelector")})
	if err == nil {
		for _, p := range pods.Items {
			items = append(items, map[string]any{
				"metadata":  map[string]any{"name": p.Name, "namespace": p.Namespace, "labels": p.Labels},
				"timestamp": time.Now().UTC().Format(time.RFC3339), "window": "15s",
				"containers": []any{map[string]any{"name": "app", "usage": map[string]string{"cpu": fmt.Sprint(load, "m"), "memory": "1Mi"}}},
			})
		}
	}
	return map[string]any{"kind": "PodMetricsList", "apiVersion": "metrics.k8s.io/v1beta1", "items": items}
}
