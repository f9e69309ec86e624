package watcher_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/watcher"
)

// network is a cluster, and what a watcher that loses no time says about it.
type network struct {
	*churn
	t      *testing.T
	events *reader
	watch  func(*testing.T) // starts another watcher
}

const networkPatience = time.Minute

func TestFailuresOfServicesVolumesAndQuotasAreAnnouncedAndResolved(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	starting, cancel := context.WithTimeout(t.Context(), churnPatience)
	defer cancel()
	cluster, err := kubetest.Start(starting, kubetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	server := bustest.Start(t)
	events, kube := read(t, server), cluster.Client(t)
	watch := func(t *testing.T) {
		r := run(t, watcher.Config{
			HealthCheckInterval: time.Hour, RecoveryTimeout: time.Hour,
			PodCheckInterval: 200 * time.Millisecond, PodRestartThreshold: 5,
			NodeCheckInterval: 200 * time.Millisecond, NodeFailureThreshold: 100,
		}, reach(t, cluster), server.Bus(t, watcher.Name))
		kubetest.Eventually(t, churnPatience, func(context.Context) error {
			return errors.Join(r.check("k8s_connection"), r.check("monitoring_active"))
		})
	}
	watch(t)

	for name, test := range map[string]func(network){
		"a service whose pods are not ready": network.unready,
		"a service whose pods are gone":      network.gone,
		"a service whose port leads nowhere": network.port,
		"a service that rests":               network.rests,
		"claims that wait":                   network.claims,
		"a quota that is used up":            network.quota,
		"an API without a service":           network.api,
		"a namespace that is deleted":        network.deleted,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(network{churn: &churn{Cluster: cluster, kube: kube, ns: cluster.Namespace(t)}, t: t, events: events, watch: watch})
		})
	}
}

// begins waits for a failure with this reason, of the object of this name.
func (n network) begins(reason, name string) heal.Failure {
	n.t.Helper()
	return n.await(func(f heal.Failure) bool {
		return !f.Resolved() && f.Reason == reason && f.Target.Name == name && (f.Namespace == "" || f.Namespace == n.ns)
	}, fmt.Sprintf("%s of %s", reason, name))
}

// ends waits for the end of a failure.
func (n network) ends(of heal.Failure) {
	n.t.Helper()
	n.await(func(f heal.Failure) bool { return f.Resolved() && f.EpisodeID == of.EpisodeID }, "the end of "+of.Reason)
}

func (n network) await(is func(heal.Failure) bool, what string) (found heal.Failure) {
	n.t.Helper()
	kubetest.Eventually(n.t, networkPatience, func(context.Context) error {
		for _, f := range n.events.all() {
			if is(f) {
				found = f
				return nil
			}
		}
		return fmt.Errorf("nothing about %s among %s", what, reasons(n.events.all()))
	})
	return found
}

func reasons(failures []heal.Failure) []string {
	var all []string
	for _, f := range failures {
		all = append(all, fmt.Sprintf("%s of %s %s/%s (resolved: %v)", f.Reason, f.Target.Kind, f.Namespace, f.Target.Name, f.Resolved()))
	}
	return all
}

// after waits until something was said that has begun now, and has to last for
// longer than most.
func (n network) after() {
	n.t.Helper()
	other := network{churn: &churn{Cluster: n.Cluster, kube: n.kube, ns: n.Namespace(n.t)}, t: n.t, events: n.events}
	other.claim("mistaken", "no-such-class")
	other.begins("StorageClassNotFound", "mistaken")
}

// silent checks that nothing was said about the namespace.
func (n network) silent() {
	n.t.Helper()
	n.after()
	for _, f := range n.events.all() {
		if f.Namespace == n.ns {
			n.t.Errorf("published about a namespace of which nothing should be: %+v", f)
		}
	}
}

func (n network) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

// expose makes a deployment with a service, and waits until it works.
func (n network) expose(name string, replicas int32, port intstr.IntOrString) {
	n.t.Helper()
	ctx := n.t.Context()
	n.must(n.deploy(ctx, name, replicas))
	_, err := n.kube.CoreV1().Services(n.ns).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: port}},
		},
	}, metav1.CreateOptions{})
	n.must(err)
	kubetest.Eventually(n.t, networkPatience, func(ctx context.Context) error {
		list, err := n.kube.DiscoveryV1().EndpointSlices(n.ns).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=" + name})
		if err != nil {
			return err
		}
		ready := 0
		for _, s := range list.Items {
			ready += len(s.Endpoints)
		}
		if ready != int(replicas) {
			return fmt.Errorf("service %s has %d endpoints, want %d", name, ready, replicas)
		}
		return nil
	})
}

func (n network) behave(app, behaviour string) {
	n.t.Helper()
	pods, err := n.kube.CoreV1().Pods(n.ns).List(n.t.Context(), metav1.ListOptions{LabelSelector: "app=" + app})
	n.must(err)
	for _, p := range pods.Items {
		n.must(n.SetBehaviour(n.t.Context(), n.ns, p.Name, behaviour))
	}
}

func (n network) patchService(name, patch string) {
	n.t.Helper()
	_, err := n.kube.CoreV1().Services(n.ns).Patch(n.t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	n.must(err)
}

func (n network) unready() {
	n.expose("web", 2, intstr.FromInt32(8080))
	n.behave("web", "unready")
	f := n.begins("NoReadyEndpoints", "web")
	if f.Type != heal.ServiceFailure || f.Detector != "service_unavailable" || f.Metadata["ready"] != "0" || f.Metadata["total"] != "2" ||
		f.Description != "service web reaches nothing: none of its 2 endpoints is ready" {
		n.t.Errorf("announced as %+v", f)
	}

	// One that knows nothing of before does not end what it cannot judge yet.
	n.watch(n.t)
	n.after()
	for _, other := range n.events.all() {
		if other.EpisodeID == f.EpisodeID && other.Resolved() {
			n.t.Errorf("resolved by a new watcher: %+v", other)
		}
	}
	n.behave("web", "good")
	n.ends(f)
}

func (n network) gone() {
	n.expose("web", 2, intstr.FromInt32(8080))
	n.patchService("web", `{"spec":{"selector":{"app":"wep"}}}`)
	f := n.begins("EndpointsLost", "web")
	if f.Evidence[0] != (heal.Evidence{Path: "spec.selector", Value: "app=wep"}) {
		n.t.Errorf("the evidence does not begin with the selector: %+v", f.Evidence)
	}
	n.patchService("web", `{"spec":{"selector":{"app":"web"}}}`)
	n.ends(f)
}

func (n network) port() {
	n.expose("web", 1, intstr.FromString("http"))
	f := n.begins("PortMismatch", "web")
	if f.Metadata["target_port"] != "http" || f.Metadata["port"] != "80" {
		n.t.Errorf("announced with metadata %v", f.Metadata)
	}
	n.patchService("web", `{"spec":{"ports":[{"name":"http","port":80,"targetPort":8080}]}}`)
	n.ends(f)
}

func (n network) rests() {
	n.expose("web", 2, intstr.FromInt32(8080))
	n.must(n.patchDeployment(n.t.Context(), "web", `{"spec":{"replicas":0}}`))
	n.must(n.complete(n.t.Context(), "web"))
	n.silent()
}

func (n network) claim(name, class string) {
	n.t.Helper()
	_, err := n.kube.CoreV1().PersistentVolumeClaims(n.ns).Create(n.t.Context(), &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}},
		},
	}, metav1.CreateOptions{})
	n.must(err)
}

func (n network) claims() {
	ctx := n.t.Context()
	wait := storagev1.VolumeBindingWaitForFirstConsumer
	_, err := n.kube.StorageV1().StorageClasses().Create(ctx, &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: n.ns}, Provisioner: "csi.example.com", VolumeBindingMode: &wait,
	}, metav1.CreateOptions{})
	n.must(err)
	n.claim("on-purpose", n.ns)
	n.claim("mistaken", "no-such-class")
	f := n.begins("StorageClassNotFound", "mistaken")
	if f.Type != heal.ResourceExhaustion || f.Metadata["storage_class"] != "no-such-class" {
		n.t.Errorf("announced as %+v", f)
	}
	n.must(n.kube.CoreV1().PersistentVolumeClaims(n.ns).Delete(ctx, "mistaken", metav1.DeleteOptions{}))
	n.ends(f)
	for _, f := range n.events.all() {
		if f.Namespace == n.ns && f.Target.Name == "on-purpose" {
			n.t.Errorf("a claim that waits for its first consumer is announced: %+v", f)
		}
	}
}

func (n network) quota() {
	ctx := n.t.Context()
	hard := func(pods string) corev1.ResourceQuotaSpec {
		return corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{"pods": resource.MustParse(pods), "services.loadbalancers": resource.MustParse("0")}}
	}
	quota, err := n.kube.CoreV1().ResourceQuotas(n.ns).Create(ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "team"}, Spec: hard("1"),
	}, metav1.CreateOptions{})
	n.must(err)
	n.must(wait(ctx, func() error { return n.createPod(ctx, "only", "good", nil) })) // refused until the quota was counted
	f := n.begins("QuotaExhausted", "team")
	if f.Metadata["resource"] != "pods" || f.Metadata["used"] != "1" || f.Metadata["hard"] != "1" {
		n.t.Errorf("announced with metadata %v", f.Metadata)
	}
	quota.Spec, quota.ResourceVersion = hard("2"), ""
	_, err = n.kube.CoreV1().ResourceQuotas(n.ns).Update(ctx, quota, metav1.UpdateOptions{})
	n.must(err)
	n.ends(f)
}

func (n network) api() {
	ctx := n.t.Context()
	const path, name = "/apis/apiregistration.k8s.io/v1/apiservices", "v1.nobody.example.com"
	rest := n.kube.CoreV1().RESTClient()
	body := `{"apiVersion":"apiregistration.k8s.io/v1","kind":"APIService","metadata":{"name":"` + name + `"},"spec":{` +
		`"group":"nobody.example.com","version":"v1","groupPriorityMinimum":100,"versionPriority":1,"insecureSkipTLSVerify":true,` +
		`"service":{"namespace":"` + n.ns + `","name":"nobody"}}}`
	n.must(rest.Post().AbsPath(path).SetHeader("Content-Type", "application/json").Body([]byte(body)).Do(ctx).Error())
	f := n.begins("APIServiceUnavailable", name)
	if f.Type != heal.ServiceFailure || f.Metadata["condition_reason"] != "ServiceNotFound" || f.Metadata["service"] != n.ns+"/nobody" {
		n.t.Errorf("announced as %+v", f)
	}
	n.must(rest.Delete().AbsPath(path, name).Do(ctx).Error())
	n.ends(f)
}

// deleted deletes a namespace in which one pod is held. Kubernetes deletes the
// pods first: until that one goes, a claim and a service stay as they are, and
// are not marked as going.
func (n network) deleted() {
	ctx := n.t.Context()
	n.expose("web", 2, intstr.FromInt32(8080))
	held := churnPod("held", "shop/api:good", nil)
	held.Finalizers = []string{"example.com/hold"}
	_, err := n.kube.CoreV1().Pods(n.ns).Create(ctx, held, metav1.CreateOptions{})
	n.must(err)
	n.claim("mistaken", "no-such-class")
	n.must(n.kube.CoreV1().Namespaces().Delete(ctx, n.ns, metav1.DeleteOptions{}))
	n.silent()
	if s, err := n.kube.CoreV1().Services(n.ns).Get(ctx, "web", metav1.GetOptions{}); err != nil || s.DeletionTimestamp != nil {
		n.t.Errorf("the service is gone or going (%v): this shows nothing", err)
	}
	release := []byte(`{"metadata":{"finalizers":null}}`)
	_, err = n.kube.CoreV1().Pods(n.ns).Patch(ctx, "held", types.MergePatchType, release, metav1.PatchOptions{})
	n.must(err)
}
