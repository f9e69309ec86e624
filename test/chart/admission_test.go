package chart

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

// A request is one that the actuator's own account makes, as a dry run: the
// API server judges it like any other.
type request struct {
	name  string
	send  func(ctx context.Context, k kubernetes.Interface, s scene) error
	wants string // a part of why the API server refuses it; empty if it is allowed
}

// A scene is what there is to be changed.
type scene struct {
	ns   string
	pod  corev1.Pod // of a Deployment
	bare corev1.Pod // of nobody
	mine corev1.Pod // of nobody, and permitted to be made anew
	node string
}

var dry = []string{metav1.DryRunAll}

// patched is a JSON patch of an object: op path value op path value …
func patched(resource, name string, operations ...any) func(context.Context, kubernetes.Interface, scene) error {
	return patchedIn("", resource, name, operations...)
}

func patchedIn(namespace, resource, name string, operations ...any) func(context.Context, kubernetes.Interface, scene) error {
	return func(ctx context.Context, k kubernetes.Interface, s scene) error {
		var patch []map[string]any
		for i := 0; i+2 < len(operations); i += 3 {
			patch = append(patch, map[string]any{"op": operations[i], "path": operations[i+1], "value": operations[i+2]})
		}
		body, err := json.Marshal(patch)
		if err != nil {
			return err
		}
		ns := namespace
		if ns == "" {
			ns = s.ns
		}
		client := map[string]rest.Interface{
			"deployments": k.AppsV1().RESTClient(), "statefulsets": k.AppsV1().RESTClient(), "daemonsets": k.AppsV1().RESTClient(),
			"horizontalpodautoscalers": k.AutoscalingV2().RESTClient(),
		}[resource]
		if client == nil {
			client = k.CoreV1().RESTClient()
		}
		r := client.Patch(types.JSONPatchType).Resource(resource).Param("dryRun", "All").Param("fieldManager", heal.FieldManager).Body(body)
		if resource == "nodes" {
			return r.Name(s.node).Do(ctx).Error()
		}
		return r.Namespace(ns).Name(name).Do(ctx).Error()
	}
}

const (
	mark  = "/metadata/annotations/selfheal.dev~1decision-id"
	owned = "/metadata/annotations/selfheal.dev~1owned-by"
)

func taintsOf(taints ...corev1.Taint) []corev1.Taint { return taints }

// requests is everything that the actuator's actions do, and a step beside each.
func requests() []request {
	container := "/spec/template/spec/containers/0"
	marked := func(operations ...any) []any {
		return append(operations, "add", mark, "d-1", "add", owned, heal.FieldManager)
	}
	deleting := func(pod func(scene) corev1.Pod, change func(*metav1.DeleteOptions)) func(context.Context, kubernetes.Interface, scene) error {
		return func(ctx context.Context, k kubernetes.Interface, s scene) error {
			p := pod(s)
			o := metav1.DeleteOptions{DryRun: dry, Preconditions: &metav1.Preconditions{UID: &p.UID}}
			change(&o)
			return k.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, o)
		}
	}
	evicting := func(change func(*metav1.DeleteOptions)) func(context.Context, kubernetes.Interface, scene) error {
		return func(ctx context.Context, k kubernetes.Interface, s scene) error {
			o := &metav1.DeleteOptions{DryRun: dry, Preconditions: &metav1.Preconditions{UID: &s.pod.UID}}
			change(o)
			return k.PolicyV1().Evictions(s.ns).Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: s.ns, Name: s.pod.Name}, DeleteOptions: o})
		}
	}
	ofWorkload := func(s scene) corev1.Pod { return s.pod }
	zero := int64(0)
	asIs := func(*metav1.DeleteOptions) {}
	const byUID, onlyAnnotations, onlyOurs = "by its uid, and never without a grace period", "of the metadata only", "only the actuator's own annotations"
	return []request{
		{"evicts a pod by its uid", evicting(asIs), ""},
		{"evicts a pod by its name alone", evicting(func(o *metav1.DeleteOptions) { o.Preconditions = nil }), byUID},
		{"evicts a pod without a grace period", evicting(func(o *metav1.DeleteOptions) { o.GracePeriodSeconds = &zero }), byUID},
		{"deletes a pod by its uid", deleting(ofWorkload, asIs), ""},
		{"deletes a pod by its name alone", deleting(ofWorkload, func(o *metav1.DeleteOptions) { o.Preconditions = nil }), "by its name and uid"},
		{"deletes a pod without a grace period", deleting(ofWorkload, func(o *metav1.DeleteOptions) { o.GracePeriodSeconds = &zero }), "never without a grace period"},
		{"deletes a pod that nothing makes anew", deleting(func(s scene) corev1.Pod { return s.bare }, asIs), "only if something makes another"},

		{"deletes a pod that it may make anew", deleting(func(s scene) corev1.Pod { return s.mine }, asIs), ""},
		{"makes a pod anew", making(map[string]string{"selfheal.dev/recreate": "true", heal.AnnotationDecisionID: "d-1", heal.AnnotationPrevious: "uid"}), ""},
		{"makes a pod of its own accord", making(map[string]string{"selfheal.dev/recreate": "true"}), "only in place of another"},

		{"restarts a Deployment", patched("deployments", "web", marked("add", "/spec/template/metadata/annotations", map[string]string{"selfheal.dev/restarted-by": "d-1"})...), ""},
		{"rolls a Deployment back", patched("deployments", "web", marked("replace", container+"/image", "shop/web:0")...), ""},
		{"changes a template without the mark of a decision", patched("deployments", "web", "replace", container+"/image", "shop/web:0"), "only with the mark of a decision"},
		{"gives a Deployment another service account", patched("deployments", "web", marked("add", "/spec/template/spec/serviceAccountName", "admin")...), "another service account"},
		{"gives a Deployment the host's network", patched("deployments", "web", marked("add", "/spec/template/spec/hostNetwork", true)...), "namespaces of the host"},
		{"makes a container privileged", patched("deployments", "web", marked("add", container+"/securityContext", map[string]any{"privileged": true})...), "no container may become privileged"},
		{"mounts a path of the host", patched("deployments", "web", marked("add", "/spec/template/spec/volumes", []any{map[string]any{"name": "x", "hostPath": map[string]any{"path": "/"}}})...), "no path of the host"},
		{"gives a Deployment one replica more than is permitted", patched("deployments", "web", "replace", "/spec/replicas", 3), "only within selfheal.dev/max-replicas"},
		{"gives a Deployment the replicas that are permitted", patched("deployments", "elastic", "replace", "/spec/replicas", 4), ""},
		{"takes replicas back where they were permitted", patched("deployments", "elastic", "replace", "/spec/replicas", 1), ""},
		{"takes all replicas of a Deployment", patched("deployments", "elastic", "replace", "/spec/replicas", 0), "only within selfheal.dev/max-replicas"},
		{"takes a replica where none was permitted", patched("deployments", "web", "replace", "/spec/replicas", 1), "only within selfheal.dev/max-replicas"},
		{"permits itself more replicas", patched("deployments", "web", "add", "/metadata/annotations/selfheal.dev~1max-replicas", "9"), onlyOurs},
		{"takes a person's mark away", patched("deployments", "elastic", "remove", "/metadata/annotations/selfheal.dev~1mode", nil), onlyOurs},
		{"labels a Deployment", patched("deployments", "web", "add", "/metadata/labels/x", "y"), onlyAnnotations},
		{"puts a finalizer on a Deployment", patched("deployments", "web", "add", "/metadata/finalizers", []string{"example.com/x"}), onlyAnnotations},
		{"pauses a Deployment", patched("deployments", "web", "add", "/spec/paused", true), "of the spec only"},
		{"changes a Deployment's strategy", patched("deployments", "web", "replace", "/spec/strategy", map[string]any{"type": "Recreate"}), "of the spec only"},
		{"restarts a StatefulSet", patched("statefulsets", "db", marked("replace", container+"/image", "shop/db:0")...), ""},
		{"scales a StatefulSet", patched("statefulsets", "db", "replace", "/spec/replicas", 5), "of the spec only"},
		{"restarts a DaemonSet", patched("daemonsets", "agent", marked("replace", container+"/image", "shop/agent:0")...), ""},
		{"changes a DaemonSet's update strategy", patched("daemonsets", "agent", "replace", "/spec/updateStrategy", map[string]any{"type": "OnDelete"}), "of the spec only"},

		{"switches a service to its standby", patched("services", "web", marked("replace", "/spec/selector", map[string]string{"app": "web", "track": "standby"})...), ""},
		{"switches a service that has no standby", patched("services", "plain", marked("replace", "/spec/selector", map[string]string{"app": "mine"})...), "standby-selector permits it"},
		{"has a service select nothing", patched("services", "web", marked("replace", "/spec/selector", map[string]string{})...), "never empty"},
		{"gives a service an address of the outside", patched("services", "web", marked("add", "/spec/externalIPs", []string{"192.0.2.1"})...), "of the spec only"},
		{"makes a service point elsewhere", patched("services", "web", marked("add", "/spec/externalName", "example.com")...), "of the spec only"},
		{"opens a service to the outside", patched("services", "web", marked("replace", "/spec/type", "NodePort")...), "of the spec only"},

		{"lets an autoscaler have one pod more", patched("horizontalpodautoscalers", "web", marked("replace", "/spec/minReplicas", 3)...), ""},
		{"raises an autoscaler's maximum", patched("horizontalpodautoscalers", "web", marked("replace", "/spec/maxReplicas", 50)...), "of the spec only"},
		{"expands a claim as far as is permitted", patched("persistentvolumeclaims", "data", marked("replace", "/spec/resources/requests/storage", "2Gi")...), ""},
		{"expands a claim further", patched("persistentvolumeclaims", "data", marked("replace", "/spec/resources/requests/storage", "3Gi")...), "only grows, up to selfheal.dev/max-volume"},

		{"cordons a node", func(ctx context.Context, k kubernetes.Interface, s scene) error {
			config := corev1ac.Node(s.node).WithAnnotations(map[string]string{heal.AnnotationDecisionID: "d-1", heal.AnnotationOwnedBy: heal.FieldManager}).WithSpec(corev1ac.NodeSpec().WithUnschedulable(true))
			_, err := k.CoreV1().Nodes().Apply(ctx, config, metav1.ApplyOptions{FieldManager: heal.FieldManager, DryRun: dry})
			return err
		}, ""},
		{"cordons a node without the mark of a decision", patched("nodes", "", "add", "/spec/unschedulable", true), "a cordon takes the mark"},
		{"taints a node as its own", patched("nodes", "", "add", "/spec/taints", taintsOf(theirs, corev1.Taint{Key: "selfheal.dev/suspect-d-1", Effect: corev1.TaintEffectPreferNoSchedule})), ""},
		{"empties a node by a taint", patched("nodes", "", "add", "/spec/taints", taintsOf(theirs, corev1.Taint{Key: "selfheal.dev/suspect-d-1", Effect: corev1.TaintEffectNoExecute})), "of taints only the actuator's own"},
		{"takes a taint of others", patched("nodes", "", "add", "/spec/taints", taintsOf()), "of taints only the actuator's own"},
		{"says that a node is out of service, as itself", patched("nodes", "", "add", "/spec/taints", taintsOf(theirs, corev1.Taint{Key: corev1.TaintNodeOutOfService, Value: heal.FieldManager, Effect: corev1.TaintEffectNoExecute})), ""},
		{"says that a node is out of service, as a person", patched("nodes", "", "add", "/spec/taints", taintsOf(theirs, corev1.Taint{Key: corev1.TaintNodeOutOfService, Value: "nodeshutdown", Effect: corev1.TaintEffectNoExecute})), "of taints only the actuator's own"},
		{"labels a node", patched("nodes", "", "add", "/metadata/labels/x", "y"), onlyAnnotations},

		{"evicts a pod of kube-system", func(ctx context.Context, k kubernetes.Interface, _ scene) error {
			uid := types.UID("x")
			return k.PolicyV1().Evictions("kube-system").Evict(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "victim"}, DeleteOptions: &metav1.DeleteOptions{DryRun: dry, Preconditions: &metav1.Preconditions{UID: &uid}}})
		}, "namespace kube-system is protected"},
		{"restarts a Deployment of its own", patchedIn("bounds", "deployments", "bounds-self-healing-watcher", marked("add", "/spec/template/metadata/annotations", map[string]string{"selfheal.dev/restarted-by": "d-1"})...), "namespace bounds is protected"},
		{"restarts a Deployment that the chart's values protect", patchedIn("vault", "deployments", "web", marked("replace", container+"/image", "shop/web:0")...), "namespace vault is protected"},
		{"records an event under its own name", recording("selfheal.dev/actuator"), ""},
		{"records an event under another's", recording("kubelet"), "only under the actuator's own name"},
	}
}

// permissive is the namespace in which pods may be made anew.
const permissive = "permissive"

func making(annotations map[string]string) func(context.Context, kubernetes.Interface, scene) error {
	return func(ctx context.Context, k kubernetes.Interface, s scene) error {
		_, err := k.CoreV1().Pods(permissive).Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "anew", Annotations: annotations}, Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "app", Image: "shop/web:1"}},
		}}, metav1.CreateOptions{DryRun: dry})
		return err
	}
}

func recording(by string) func(context.Context, kubernetes.Interface, scene) error {
	return func(ctx context.Context, k kubernetes.Interface, s scene) error {
		_, err := k.EventsV1().Events(s.ns).Create(ctx, &eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: "d-1.end", Namespace: s.ns}, EventTime: metav1.NowMicro(), ReportingController: by, ReportingInstance: "x",
			Action: "restart", Type: corev1.EventTypeNormal, Reason: "Verified", Regarding: corev1.ObjectReference{Kind: "Pod", Namespace: s.ns, Name: "x"},
		}, metav1.CreateOptions{DryRun: dry})
		return err
	}
}

// theirs is a taint that the node has of somebody else.
var theirs = corev1.Taint{Key: "example.com/dedicated", Value: "x", Effect: corev1.TaintEffectPreferNoSchedule}

func TestTheAPIServerBoundsTheActuatorByItself(t *testing.T) {
	c := kubetest.Get(t)
	admin := c.Client(t)
	namespace(t, "vault", nil)
	namespace(t, permissive, nil)
	install(t, "bounds", "-f", filepath.Join(chartFolder(t), "ci", "small-values.yaml"), "--set", "admissionPolicy.protectedNamespaces={vault},actuator.bareNamespaces={"+permissive+"}")
	s := stage(t, admin)
	k := asAccount(t, "bounds", "bounds-self-healing-actuator")

	// The policies are known to the API server a moment after they are made.
	forbidden := requests()
	kubetest.Eventually(t, 30*time.Second, func(ctx context.Context) error {
		for _, r := range forbidden {
			if err := r.send(ctx, k, s); r.wants != "" && (err == nil || !strings.Contains(err.Error(), r.wants)) {
				return fmt.Errorf("it %s: %w", r.name, err)
			}
		}
		return nil
	})
	allowed, refused := 0, 0
	for _, r := range requests() {
		t.Run("it "+r.name, func(t *testing.T) {
			err := r.send(t.Context(), k, s)
			if r.wants == "" {
				allowed++
				if err != nil {
					t.Errorf("refused: %v", err)
				}
				return
			}
			refused++
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy") || !strings.Contains(err.Error(), r.wants) {
				t.Errorf("got  %v\nwant a refusal with %q", err, r.wants)
			}
		})
	}
	t.Logf("%d allowed, %d refused", allowed, refused)

	t.Run("and not at all while the namespace says so", func(t *testing.T) {
		for _, r := range requests() {
			if r.wants == "" {
				if err := r.send(t.Context(), k, s); err != nil {
					t.Fatalf("it %s: %v", r.name, err)
				}
			}
		}
		annotate := func(mode any) {
			t.Helper()
			body, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{heal.AnnotationMode: mode}}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := admin.CoreV1().Namespaces().Patch(t.Context(), "bounds", types.MergePatchType, body, metav1.PatchOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		for _, mode := range []string{"off", "observe"} {
			annotate(mode)
			begin := time.Now()
			for _, r := range requests() {
				if r.wants != "" {
					continue
				}
				harness.WaitFor(t, 2*time.Second, r.name+" to be refused", func() error {
					if err := r.send(t.Context(), k, s); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "selfheal.dev/mode="+mode) {
						return fmt.Errorf("got %w", err)
					}
					return nil
				})
			}
			t.Logf("%s: all that it does is refused within %s", mode, time.Since(begin).Round(time.Millisecond))
			if _, err := admin.CoreV1().Pods(s.ns).Get(t.Context(), s.pod.Name, metav1.GetOptions{}); err != nil {
				t.Error(err)
			}
		}
		annotate(nil)
		harness.WaitFor(t, 5*time.Second, "it to be allowed again", func() error { return requests()[0].send(t.Context(), k, s) })
	})
}

// asAccount is a client with the token of a service account.
func asAccount(t *testing.T, namespace, account string) kubernetes.Interface {
	t.Helper()
	k := &kubelet{t: t, in: namespace, client: kubetest.Get(t).Client(t)}
	path, err := k.kubeconfig(t.Context(), account, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	config.WarningHandler = rest.NoWarnings{}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// stage makes one of each kind that the actuator may change.
func stage(t *testing.T, k kubernetes.Interface) scene {
	t.Helper()
	ns := kubetest.Get(t).Namespace(t)
	s := scene{ns: ns}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	web, elastic := harness.Deployment("web", "shop/web:1", 2), harness.Deployment("elastic", "shop/elastic:1", 2)
	web.Annotations = map[string]string{"example.com/x": "y"}
	elastic.Annotations = map[string]string{"selfheal.dev/max-replicas": "4", heal.AnnotationMode: "auto"}
	harness.Deploy(t, k, ns, web, elastic)
	harness.Deploy(t, k, "vault", harness.Deployment("web", "shop/web:1", 1))
	s.pod = harness.Pods(t, k, ns, "web")[0]
	template := web.Spec.Template
	bare, err := k.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "bare"}, Spec: template.Spec}, metav1.CreateOptions{})
	must(err)
	s.bare = *bare
	mine, err := k.CoreV1().Pods(permissive).Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "mine", Annotations: map[string]string{"selfheal.dev/recreate": "true"}}, Spec: template.Spec}, metav1.CreateOptions{})
	must(err)
	s.mine = *mine
	one := int32(1)
	labels := map[string]string{"app": "db"}
	_, err = k.AppsV1().StatefulSets(ns).Create(t.Context(), &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "db", Annotations: map[string]string{"a": "b"}}, Spec: appsv1.StatefulSetSpec{
		Replicas: &one, ServiceName: "db", Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: template.Spec},
	}}, metav1.CreateOptions{})
	must(err)
	labels = map[string]string{"app": "agent"}
	_, err = k.AppsV1().DaemonSets(ns).Create(t.Context(), &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Name: "agent", Annotations: map[string]string{"a": "b"}}, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels}, Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: template.Spec},
	}}, metav1.CreateOptions{})
	must(err)
	for name, annotations := range map[string]map[string]string{"web": {heal.AnnotationStandby: "app=web,track=standby"}, "plain": {"a": "b"}} {
		_, err = k.CoreV1().Services(ns).Create(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: annotations}, Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(80)}},
		}}, metav1.CreateOptions{})
		must(err)
	}
	_, err = k.AutoscalingV2().HorizontalPodAutoscalers(ns).Create(t.Context(), &autoscalingv2.HorizontalPodAutoscaler{ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{"a": "b"}}, Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
		MinReplicas: &one, MaxReplicas: 5, ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "nothing"},
	}}, metav1.CreateOptions{})
	must(err)
	class := "expandable"
	allow := true
	_, err = k.StorageV1().StorageClasses().Create(t.Context(), storageClass(class, &allow), metav1.CreateOptions{})
	must(err)
	t.Cleanup(func() { _ = k.StorageV1().StorageClasses().Delete(context.Background(), class, metav1.DeleteOptions{}) }) // the cluster ends with the package
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	modes := []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	_, err = k.CoreV1().PersistentVolumes().Create(t.Context(), &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "data-" + ns}, Spec: corev1.PersistentVolumeSpec{
		StorageClassName: class, Capacity: size, AccessModes: modes, ClaimRef: &corev1.ObjectReference{Namespace: ns, Name: "data"},
		PersistentVolumeSource: corev1.PersistentVolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/nowhere"}},
	}}, metav1.CreateOptions{})
	must(err)
	_, err = k.CoreV1().PersistentVolumeClaims(ns).Create(t.Context(), &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "data", Annotations: map[string]string{"selfheal.dev/max-volume": "2Gi"}}, Spec: corev1.PersistentVolumeClaimSpec{
		StorageClassName: &class, VolumeName: "data-" + ns, AccessModes: modes, Resources: corev1.VolumeResourceRequirements{Requests: size},
	}}, metav1.CreateOptions{})
	must(err)
	harness.WaitFor(t, 30*time.Second, "the claim to be bound", func() error {
		c, err := k.CoreV1().PersistentVolumeClaims(ns).Get(t.Context(), "data", metav1.GetOptions{})
		if err == nil && c.Status.Phase != corev1.ClaimBound {
			err = fmt.Errorf("it is %s", c.Status.Phase)
		}
		return err
	})
	nodes, err := k.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	must(err)
	s.node = nodes.Items[0].Name
	body := []byte(`{"metadata":{"annotations":{"example.com/x":"y"}},"spec":{"taints":[{"key":"` + theirs.Key + `","value":"` + theirs.Value + `","effect":"` + string(theirs.Effect) + `"}]}}`)
	_, err = k.CoreV1().Nodes().Patch(t.Context(), s.node, types.StrategicMergePatchType, body, metav1.PatchOptions{})
	must(err)
	t.Cleanup(func() {
		_, _ = k.CoreV1().Nodes().Patch(context.Background(), s.node, types.MergePatchType, []byte(`{"spec":{"taints":null}}`), metav1.PatchOptions{}) // the next test may not care
	})
	return s
}
