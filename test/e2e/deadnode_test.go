package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/test/harness"
)

var deadNodeWithProvider = scenario{
	name:   "dead node, its machine of Cluster API",
	proves: "cordoned, drained, its Machine deleted, its successor awaited; without proof of death nothing is forced",
	long:   true,
	play: func(s *stage) {
		defer s.alone()()
		dead, alive := s.pair()
		s.onNode(dead, alive, "web", 3)
		machine := s.machine(dead)
		s.breaks(func() error { return s.cluster.StopNode(s.Context(), dead) })
		harness.WaitFor(s.T, 2*time.Minute, "the machine to be given up", func() error {
			raw, err := s.raw(http.MethodGet, machine, nil)
			if apierrors.IsNotFound(err) {
				return nil
			}
			var o struct{ Metadata metav1.ObjectMeta }
			if err == nil {
				err = json.Unmarshal(raw, &o)
			}
			if err == nil && o.Metadata.DeletionTimestamp == nil {
				err = fmt.Errorf("%s is not being deleted", machine)
			}
			return err
		})
		// What Cluster API does then.
		s.addNode("new-" + s.ns)
		if err := s.cluster.RemoveNode(s.Context(), dead); err != nil {
			s.Fatal(err)
		}
		s.release(machine)
		s.ends(2*time.Minute, end{heal.EmergencyReplace, "Node", heal.Succeeded, "NodeReplaced",
			[]string{"patch nodes", "create pods/eviction", "create pods/eviction", "create pods/eviction", "delete machines"}})
		harness.WaitAvailable(s.T, s.kube, s.ns, "web", 3)
		s.stays()
	},
}

var deadNodeWithoutProvider = scenario{
	name:   "dead node that nobody replaces",
	proves: "cordoned and drained, so that all runs elsewhere, and a person told; when the node comes back, the cordon goes",
	long:   true,
	play: func(s *stage) {
		defer s.alone()()
		dead, alive := s.pair()
		s.onNode(dead, alive, "web", 3)
		s.breaks(func() error { return s.cluster.StopNode(s.Context(), dead) })
		s.ends(3*time.Minute, end{heal.EmergencyReplace, "Node", heal.Failed, "NodeStillDown",
			[]string{"patch nodes", "create pods/eviction", "create pods/eviction", "create pods/eviction"}})
		harness.WaitFor(s.T, 30*time.Second, "3 ready pods on the living node", func() error {
			ready := 0
			for _, p := range harness.Pods(s.T, s.kube, s.ns, "web") {
				if isReady(p) && p.Spec.NodeName == alive {
					ready++
				}
			}
			if ready != 3 {
				return fmt.Errorf("%d", ready)
			}
			return nil
		})
		if err := s.cluster.StartNode(s.Context(), dead); err != nil {
			s.Fatal(err)
		}
		s.later(90*time.Second, "patch nodes")
		s.stays()
	},
}

// pair adds two nodes of the scenario's own.
func (s *stage) pair() (a, b string) {
	s.Helper()
	a, b = "a-"+s.ns, "b-"+s.ns
	s.addNode(a)
	s.addNode(b)
	return a, b
}

// addNode adds a node that only the scenario's pods run on. It stays until all
// have ended: a watcher that sees many nodes go at once doubts its eyes.
func (s *stage) addNode(name string) {
	s.Helper()
	s.nodes = append(s.nodes, name)
	if err := s.cluster.AddNode(s.Context(), name, "zone-of-"+s.ns, s.own()); err != nil {
		s.Fatal(err)
	}
	s.all.Cleanup(func() {
		if err := s.kube.CoreV1().Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			s.all.Error(err)
		}
	})
	harness.WaitFor(s.T, 40*time.Second, "node "+name+" to be Ready", func() error {
		n, err := s.kube.CoreV1().Nodes().Get(s.Context(), name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range n.Status.Conditions {
			if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("%v", n.Status.Conditions)
	})
}

// onNode makes a Deployment all of whose pods run on one of two nodes, and may run on both.
func (s *stage) onNode(here, other, name string, replicas int32, change ...func(*appsv1.Deployment)) {
	s.Helper()
	s.cordon(other, true)
	s.deploy(name, "shop/"+name+":1", replicas, change...)
	s.cordon(other, false)
}

// cordon does what kubectl cordon and uncordon do.
func (s *stage) cordon(node string, on bool) {
	s.Helper()
	value := "null"
	if on {
		value = "true"
	}
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%s}}`, value)
	if _, err := s.kube.CoreV1().Nodes().Patch(s.Context(), node, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: "kubectl-person"}); err != nil {
		s.Fatal(err)
	}
}

// raw sends an object of a kind that there is no type for.
func (s *stage) raw(verb, path string, body any) ([]byte, error) {
	s.Helper()
	data, err := json.Marshal(body)
	if err != nil {
		s.Fatal(err)
	}
	req := s.kube.Discovery().RESTClient().Verb(verb).AbsPath(path).SetHeader("Accept", "application/json")
	switch {
	case verb == http.MethodPatch:
		req = req.SetHeader("Content-Type", string(types.MergePatchType)).Body(data)
	case body != nil:
		req = req.SetHeader("Content-Type", "application/json").Body(data)
	}
	return req.DoRaw(context.Background())
}

// create makes an object of such a kind. One that was just defined takes a moment to be served.
func (s *stage) create(path string, body any) {
	s.Helper()
	harness.WaitFor(s.T, 20*time.Second, path+" to be served", func() error {
		raw, err := s.raw(http.MethodPost, path, body)
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, raw)
		}
		return nil
	})
}

// define makes the API server serve a kind, whatever is in it.
func (s *stage) define(group, version, kind, plural string) {
	s.Helper()
	s.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": plural + "." + group, "annotations": map[string]any{"api-approved.kubernetes.io": "unapproved, for a test"}},
		"spec": map[string]any{
			"group": group, "scope": "Namespaced", "names": map[string]any{"kind": kind, "plural": plural},
			"versions": []any{map[string]any{"name": version, "served": true, "storage": true, "schema": map[string]any{
				"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true},
			}}},
		},
	})
}

// machine makes a node one of Cluster API's, and returns its Machine's path.
func (s *stage) machine(node string) string {
	s.Helper()
	const group, version = "cluster.x-k8s.io", "v1beta1"
	s.define(group, version, "Machine", "machines")
	s.define(group, version, "Cluster", "clusters")
	s.define(group, version, "MachineHealthCheck", "machinehealthchecks")
	in := fmt.Sprintf("/apis/%s/%s/namespaces/%s/machines", group, version, s.ns)
	s.create(in, map[string]any{
		"apiVersion": group + "/" + version, "kind": "Machine",
		"metadata": map[string]any{
			"name": "m-1", "finalizers": []string{"machine." + group},
			"ownerReferences": []any{map[string]any{"apiVersion": group + "/" + version, "kind": "MachineSet", "name": "pool", "uid": "1-2-3", "controller": true}},
		},
		"spec":   map[string]any{"clusterName": "prod"},
		"status": map[string]any{"nodeRef": map[string]any{"name": node}},
	})
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{"cluster.x-k8s.io/machine":"m-1","cluster.x-k8s.io/cluster-namespace":%q}}}`, s.ns)
	if _, err := s.kube.CoreV1().Nodes().Patch(s.Context(), node, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		s.Fatal(err)
	}
	path := in + "/m-1"
	s.Cleanup(func() { s.release(path) }) // else the namespace cannot go
	return path
}

// release lets go of what is being deleted.
func (s *stage) release(path string) {
	if _, err := s.raw(http.MethodPatch, path, map[string]any{"metadata": map[string]any{"finalizers": nil}}); err != nil && !apierrors.IsNotFound(err) {
		s.Error(err)
	}
}
