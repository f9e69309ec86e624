package watcher_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// cluster is an API server without kubelets: tests write what those would.
type cluster struct {
	t testing.TB
	*fake.Clientset

	mu       sync.Mutex     // guards what follows
	version  int            // the last resourceVersion
	watching map[string]int // resource to the number of watches begun
}

func newCluster(t testing.TB, objects ...runtime.Object) *cluster {
	c := &cluster{t: t, Clientset: fake.NewClientset(objects...), watching: map[string]int{}}
	c.PrependWatchReactor("*", func(a clienttesting.Action) (bool, watch.Interface, error) {
		// As the tracker does it, and noted only when nothing can be missed any more.
		w, err := c.Tracker().Watch(a.GetResource(), a.GetNamespace())
		c.mu.Lock()
		defer c.mu.Unlock()
		c.watching[a.GetResource().Resource]++
		return true, w, err
	})
	return c
}

// watched reports whether n watchers see all that happens from now on.
func (c *cluster) watched(n int) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range []string{"pods", "nodes", "deployments"} {
		if c.watching[resource] < n {
			return fmt.Errorf("%d watches of %s, want %d", c.watching[resource], resource, n)
		}
	}
	return nil
}

func (c *cluster) nextVersion() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.version++
	return strconv.Itoa(c.version)
}

func (c *cluster) create(pod *corev1.Pod) {
	c.t.Helper()
	pod.ResourceVersion = c.nextVersion()
	if _, err := c.CoreV1().Pods(pod.Namespace).Create(c.t.Context(), pod, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) update(pod *corev1.Pod) {
	c.t.Helper()
	pod.ResourceVersion = c.nextVersion()
	if _, err := c.CoreV1().Pods(pod.Namespace).Update(c.t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) delete(pod *corev1.Pod) {
	c.t.Helper()
	if err := c.CoreV1().Pods(pod.Namespace).Delete(c.t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) updateNode(node *corev1.Node) {
	c.t.Helper()
	node.ResourceVersion = c.nextVersion()
	if _, err := c.CoreV1().Nodes().Update(c.t.Context(), node, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) updateDeployment(d *appsv1.Deployment) {
	c.t.Helper()
	d.ResourceVersion = c.nextVersion()
	if _, err := c.AppsV1().Deployments(d.Namespace).Update(c.t.Context(), d, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func controlledBy(version, kind, name, uid string) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: name, UID: types.UID(uid), Controller: &yes}}
}

func replicaSet() *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{
		Name: "checkout-7d9f6c", Namespace: "shop", UID: "uid-rs",
		OwnerReferences: controlledBy("apps/v1", "Deployment", "checkout", "uid-deploy"),
	}}
}

func deployment() *appsv1.Deployment {
	three := int32(3)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "checkout", Namespace: "shop", UID: "uid-deploy"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &three,
			Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "api", Command: []string{"canary"}}}}},
		},
		Status: appsv1.DeploymentStatus{AvailableReplicas: 3, UpdatedReplicas: 1, Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: "MinimumReplicasAvailable"},
			{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "ReplicaSetUpdated"},
		}},
	}
}

func healthyPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "checkout-7d9f6c-x2kpl", Namespace: "shop", UID: "uid-pod",
			OwnerReferences: controlledBy("apps/v1", "ReplicaSet", "checkout-7d9f6c", "uid-rs"),
		},
		Spec: corev1.PodSpec{
			NodeName:      "n1.example.internal",
			RestartPolicy: corev1.RestartPolicyAlways,
			Containers:    []corev1.Container{{Name: "api", Command: []string{"canary"}, Env: []corev1.EnvVar{{Name: "TOKEN", Value: "canary"}}}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning,
			ContainerStatuses: []corev1.ContainerStatus{{
				Name: "api", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			}},
		},
	}
}

func crashing(pod *corev1.Pod, restarts int32) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.Status.ContainerStatuses[0] = corev1.ContainerStatus{
		Name: "api", RestartCount: restarts,
		State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: "canary"}},
	}
	return pod
}

func node(ready corev1.ConditionStatus) *corev1.Node {
	reason := map[corev1.ConditionStatus]string{
		corev1.ConditionTrue: "KubeletReady", corev1.ConditionFalse: "KubeletNotReady", corev1.ConditionUnknown: "NodeStatusUnknown",
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: "n1.example.internal", UID: "uid-node",
			CreationTimestamp: metav1.Time{Time: time.Now().Add(-time.Hour)},
		},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: reason[ready]}}},
	}
}

// eventually asks until check returns nil, and fails with its last answer
// when that takes too long.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("still: %v", err)
		case <-tick.C:
		}
	}
}
