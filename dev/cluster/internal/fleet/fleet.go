// Package fleet fills a cluster with many objects at once, by writing them into etcd in the form in which the API
// server stores them: ten thousand a second, where the API server takes some two hundred pods. To everybody who
// reads them they are objects like any other.
//
// They are as a cluster at rest has them: Deployments with a current and a former ReplicaSet, a headless Service and
// its EndpointSlice, running pods of some 5 kB, nodes with their Leases. Nobody simulates or controls them, so such a
// cluster runs without controllers (Config.Static): a pod stays what it was written as. Only the nodes' heartbeats go
// on, by Beat.
//
// What there is follows from the Size alone, up to times: two fleets of one size have the same names and UIDs.
package fleet

import (
	"crypto/sha256"
	"fmt"
	"iter"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// Size says how much there is.
type Size struct {
	Pods  int
	Nodes int
}

// Validate returns what a user has to change, or nil.
func (s Size) Validate() error {
	if s.Pods < 0 {
		return fmt.Errorf("--pods is %d, want 0 or more", s.Pods)
	}
	if s.Nodes < 1 {
		return fmt.Errorf("--nodes is %d, want 1 or more", s.Nodes)
	}
	return nil
}

const (
	replicas   = 20 // of a full Deployment
	namespaces = 50
	zones      = 3
)

// A stored object is one key of etcd.
type stored struct {
	key    string
	object runtime.Object
}

// objects are all objects of a fleet, each before those that refer to it. Times count back from now.
func objects(s Size, now metav1.Time) iter.Seq[stored] {
	return func(yield func(stored) bool) {
		for i := range namespaces {
			if !yield(newNamespace(i, now)) {
				return
			}
		}
		for i := range s.Nodes {
			if !yield(newNode(i, now)) || !yield(newLease(nodeName(i), now)) {
				return
			}
		}
		for i := range s.apps() {
			a := s.app(i, now)
			for _, o := range []stored{a.deployment(), a.replicaSet(formerRevision), a.replicaSet(currentRevision), a.service(), a.endpointSlice()} {
				if !yield(o) {
					return
				}
			}
			for j := range a.replicas {
				if !yield(a.pod(j)) {
					return
				}
			}
		}
	}
}

func (s Size) apps() int { return (s.Pods + replicas - 1) / replicas }

// podKeys are the keys of n pods of the fleet, or of all: one of each Deployment, then a second one, and so on, so
// that few of them are spread over nodes and workloads as widely as they can be.
func podKeys(s Size, n int) []string {
	var keys []string
	for j := range replicas {
		for i := range s.apps() {
			if a := s.app(i, metav1.Time{}); j < a.replicas && len(keys) < n {
				keys = append(keys, podKey(a.namespace, a.podName(j)))
			}
		}
	}
	return keys
}

func nodeName(i int) string {
	return fmt.Sprintf("ip-10-%d-%d-%d.eu-west-1.compute.internal", 1+i>>16, i>>8&255, i&255)
}

func zoneOf(node int) string { return fmt.Sprintf("eu-west-1%c", 'a'+node%zones) }

func namespaceName(i int) string { return fmt.Sprintf("team-%02d", i) }

// uidOf is an object's UID, which follows from its key.
func uidOf(key string) types.UID {
	h := sha256.Sum256([]byte(key))
	return types.UID(fmt.Sprintf("%x-%x-4%x-a%x-%x", h[:4], h[4:6], h[6:8], h[8:10], h[10:16])[:36])
}

// suffix is what the API server and controllers append to names: n letters without vowels, and digits.
func suffix(of string, n int) string {
	const letters = "bcdfghjklmnpqrstvwxz2456789"
	h := sha256.Sum256([]byte(of))
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[int(h[i])%len(letters)]
	}
	return string(b)
}

func newNamespace(i int, now metav1.Time) stored {
	name := namespaceName(i)
	key := "/registry/namespaces/" + name
	return stored{key, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: uidOf(key), CreationTimestamp: ago(now, created),
			Labels: map[string]string{corev1.LabelMetadataName: name},
		},
		Spec:   corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
		Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}}
}
