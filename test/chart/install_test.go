package chart

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/services/watcher"
	"github.com/selfheal/selfheal/test/chart/rights"
	"github.com/selfheal/selfheal/test/harness"
)

// namespace makes a namespace by name, once for all tests.
func namespace(t testing.TB, name string, labels map[string]string) {
	t.Helper()
	_, err := kubetest.Get(t).Client(t).CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

// install installs the chart into a namespace of its own that allows nothing
// but restricted pods, and uninstalls it with the test. What runs once is run.
func install(t testing.TB, release string, args ...string) (notes string) {
	t.Helper()
	startKubelet(t, release, nil)
	return installOnly(t, helmBinary, release, args...)
}

// installOnly is install by a version of Helm, with the test's own kubelet.
func installOnly(t testing.TB, version, release string, args ...string) (notes string) {
	t.Helper()
	c := kubetest.Get(t)
	namespace(t, release, map[string]string{"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"})
	on := []string{"--namespace", release, "--kubeconfig", c.Kubeconfig}
	binary, folder, k := tool(t, version), t.TempDir(), c.Client(t)
	notes, err := runHelm(t.Context(), binary, folder, append(append([]string{"install", release, chartFolder(t)}, on...), args...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// The test's own context is over.
		ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
		defer cancel()
		if _, err := runHelm(ctx, binary, folder, append([]string{"uninstall", release}, on...)...); err != nil {
			t.Error(err)
		}
		ours := metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=" + release}
		left, err := k.RbacV1().ClusterRoleBindings().List(ctx, ours)
		if err != nil || len(left.Items) > 0 {
			t.Errorf("%d bindings stay behind: %v", len(left.Items), err)
		}
		policies, err := k.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(ctx, ours)
		if err != nil || len(policies.Items) > 0 {
			t.Errorf("%d policies stay behind: %v", len(policies.Items), err)
		}
	})
	return notes
}

// monitors makes the kinds of Prometheus' operator and of KEDA known, with any content.
func monitors(t testing.TB) {
	t.Helper()
	config, err := kubetest.Get(t).RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	crds := client.Resource(schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"})
	for _, of := range []struct{ kind, group, version string }{
		{"ServiceMonitor", "monitoring.coreos.com", "v1"}, {"PodMonitor", "monitoring.coreos.com", "v1"}, {"PrometheusRule", "monitoring.coreos.com", "v1"},
		{"ScaledObject", "keda.sh", "v1alpha1"},
	} {
		kind, plural := of.kind, strings.ToLower(of.kind)+"s"
		crd := &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": map[string]any{"name": plural + "." + of.group},
			"spec": map[string]any{
				"group": of.group, "scope": "Namespaced", "names": map[string]any{"kind": kind, "plural": plural, "singular": strings.ToLower(kind)},
				"versions": []any{map[string]any{"name": of.version, "served": true, "storage": true, "schema": map[string]any{
					"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true},
				}}},
			},
		}}
		if _, err := crds.Create(t.Context(), crd, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
		kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
			_, err := client.Resource(schema.GroupVersionResource{Group: of.group, Version: of.version, Resource: plural}).Namespace("default").List(ctx, metav1.ListOptions{})
			return err
		})
	}
}

func TestARealControlPlaneTakesEveryRendering(t *testing.T) {
	monitors(t)
	for _, ns := range []string{"shop", "billing"} {
		namespace(t, ns, nil)
	}
	k := kubetest.Get(t).Client(t)
	for name, file := range ciFiles(t) {
		t.Run(name, func(t *testing.T) {
			release := "sh-" + name
			notes := install(t, release, "-f", file)
			for _, want := range []string{"\n  mode      ", "\n  at most   5 pods a minute in one namespace, 30 in all", "kubectl -n " + release + " get pods", "selfheal.dev/mode=off"} {
				if !strings.Contains(notes, want) {
					t.Errorf("the notes lack %q:\n%s", want, notes)
				}
			}
			// A workload is taken as it is; what Pod Security thinks of it shows in the pods.
			kubetest.Eventually(t, 40*time.Second, func(ctx context.Context) error {
				deployments, err := k.AppsV1().Deployments(release).List(ctx, metav1.ListOptions{})
				if err != nil {
					return err
				}
				if n := len(deployments.Items); n != len(harness.Services) {
					return fmt.Errorf("%d deployments", n)
				}
				for _, d := range deployments.Items {
					if d.Status.Replicas != *d.Spec.Replicas {
						return fmt.Errorf("%s has %d of %d pods: %v", d.Name, d.Status.Replicas, *d.Spec.Replicas, d.Status.Conditions)
					}
				}
				sets, err := k.AppsV1().StatefulSets(release).List(ctx, metav1.ListOptions{})
				if err != nil {
					return err
				}
				for _, s := range sets.Items {
					if s.Status.Replicas != *s.Spec.Replicas {
						return fmt.Errorf("%s has %d of %d pods", s.Name, s.Status.Replicas, *s.Spec.Replicas)
					}
				}
				return nil
			})
		})
	}
}

// A right is a verb on a resource, as in `patch apps/deployments`.
type right string

func rightTo(verb, group, resource string) right {
	if group != "" {
		resource = group + "/" + resource
	}
	return right(verb + " " + resource)
}

// expand is every right that rules give.
func expand(rules []rbacv1.PolicyRule) []right {
	var all []right
	for _, r := range rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				for _, verb := range r.Verbs {
					all = append(all, rightTo(verb, group, resource))
				}
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// everything is each verb on each resource that the server has, and on those
// that rules speak of though the server lacks them.
func everything(t testing.TB, k kubernetes.Interface, rules ...rbacv1.PolicyRule) map[right]authorizationv1.ResourceAttributes {
	t.Helper()
	_, lists, err := k.Discovery().ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	all := map[right]authorizationv1.ResourceAttributes{}
	add := func(group, resource string) {
		for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "impersonate", "escalate", "bind"} {
			name, sub, _ := strings.Cut(resource, "/")
			all[rightTo(verb, group, resource)] = authorizationv1.ResourceAttributes{Verb: verb, Group: group, Resource: name, Subresource: sub}
		}
	}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range list.APIResources {
			add(gv.Group, r.Name)
		}
	}
	for _, extra := range []string{"nodes/proxy", "secrets", "users", "groups", "serviceaccounts/token", "pods/exec", "pods/attach", "pods/ephemeralcontainers"} {
		add("", extra)
	}
	for _, r := range rules {
		for _, group := range r.APIGroups {
			for _, resource := range r.Resources {
				add(group, resource)
			}
		}
	}
	return all
}

// granted is what the service may do in the namespace that any service account
// may not, of all the rights there are.
func granted(t testing.TB, k kubernetes.Interface, release, service, in string, all map[right]authorizationv1.ResourceAttributes) []right {
	t.Helper()
	may := func(account string, a authorizationv1.ResourceAttributes) (bool, error) {
		a.Namespace = in
		review, err := k.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:               "system:serviceaccount:" + release + ":" + account,
			Groups:             []string{"system:serviceaccounts", "system:serviceaccounts:" + release, "system:authenticated"},
			ResourceAttributes: &a,
		}}, metav1.CreateOptions{})
		if err != nil {
			return false, err
		}
		return review.Status.Allowed, nil
	}
	var mu sync.Mutex
	var got []right
	var failed error
	todo := make(chan right)
	var asking sync.WaitGroup
	for range 8 {
		asking.Go(func() {
			for r := range todo {
				ok, err := may(release+"-self-healing-"+service, all[r])
				if ok && err == nil {
					var anybody bool
					anybody, err = may("default", all[r])
					ok = !anybody
				}
				mu.Lock()
				if err != nil {
					failed = err
				}
				if ok {
					got = append(got, r)
				}
				mu.Unlock()
			}
		})
	}
	for _, r := range slices.Sorted(maps.Keys(all)) {
		todo <- r
	}
	close(todo)
	asking.Wait()
	if failed != nil {
		t.Fatal(failed)
	}
	slices.Sort(got)
	return got
}

func TestAServiceMayDoWhatItsRulesSayAndNothingElse(t *testing.T) {
	k := kubetest.Get(t).Client(t)
	namespace(t, "shop", nil)
	install(t, "rights", "-f", filepath.Join(chartFolder(t), "ci", "small-values.yaml"))
	want := map[string][]rbacv1.PolicyRule{"watcher": watcher.Rules(), "actuator": actuator.Rules(), "analyzer": nil, "notifier": nil, "nats": nil}
	all := everything(t, k, append(watcher.Rules(), actuator.Rules()...)...)
	for service, rules := range want {
		if diff := cmp.Diff(expand(rules), granted(t, k, "rights", service, "shop", all)); diff != "" {
			t.Errorf("%s (-rules +granted):\n%s", service, diff)
		}
	}
	for r := range all {
		if verb, _, _ := strings.Cut(string(r), " "); slices.Contains(expand(watcher.Rules()), r) && !slices.Contains([]string{"get", "list", "watch"}, verb) {
			t.Errorf("the watcher may %s", r)
		}
	}
	t.Logf("%d rights asked for, for each of %d accounts; watcher has %d, actuator %d", len(all), len(want), len(expand(watcher.Rules())), len(expand(actuator.Rules())))
}

func TestWithNamespacesItsRightsEndThere(t *testing.T) {
	k := kubetest.Get(t).Client(t)
	for _, ns := range []string{"shop", "billing"} {
		namespace(t, ns, nil)
	}
	install(t, "narrow", "-f", filepath.Join(chartFolder(t), "ci", "namespaced-values.yaml"))
	all := everything(t, k, append(watcher.NamespaceRules(), actuator.Rules()...)...)
	nodes := []right{"get karpenter.sh/nodeclaims", "get nodes", "list nodes", "watch nodes"}
	var actuators []right
	for _, r := range expand(rights.Actuator(heal.Restart, heal.Recreate, heal.Rollback)) {
		if !strings.HasSuffix(string(r), " nodes") && !strings.HasSuffix(string(r), "/nodeclaims") {
			actuators = append(actuators, r)
		}
	}
	if slices.Contains(actuators, "patch persistentvolumeclaims") || !slices.Contains(actuators, "patch apps/deployments") {
		t.Errorf("the rights are not those of its strategies: %v", actuators)
	}
	actuators = append(actuators, nodes...)
	slices.Sort(actuators)
	tests := []struct {
		service, in string
		want        []right
	}{
		{"watcher", "shop", expand(watcher.NamespaceRules())},
		{"watcher", "kube-system", nil},
		{"actuator", "shop", actuators},
		{"actuator", "kube-system", nodes},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, granted(t, k, "narrow", tt.service, tt.in, all)); diff != "" {
			t.Errorf("%s in %s (-want +granted):\n%s", tt.service, tt.in, diff)
		}
	}
	// What it may see besides are the namespaces in which a person can stop it:
	// its own, and the one that the product is named after.
	for name, want := range map[string]bool{"narrow": true, "self-healing": true, "kube-system": false} {
		review, err := k.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:               "system:serviceaccount:narrow:narrow-self-healing-actuator",
			ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "watch", Resource: "namespaces", Name: name},
		}}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if review.Status.Allowed != want {
			t.Errorf("watch namespace %s: allowed is %v, want %v", name, review.Status.Allowed, want)
		}
	}
}
