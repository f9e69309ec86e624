package watcher_test

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/watcher"
)

// A stage is a control plane of which everything but the API server stands
// still, so that objects are as a test writes them and stay so. The tests of
// this file's kind share one, one after the other; each cleans up.
type stage struct {
	mu      sync.Mutex // guards what follows
	cluster *kubetest.Cluster
	err     error
}

// theStage is started by the first test that needs it, and stopped by TestMain.
var theStage stage

func TestMain(m *testing.M) {
	if os.Getenv(asWatcher) != "" {
		daemon.Main(watcher.Service())
	}
	code := m.Run()
	if c := theStage.cluster; c != nil {
		c.Stop()
	}
	os.Exit(code)
}

func (s *stage) get(t testing.TB) *kubetest.Cluster {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cluster == nil && s.err == nil {
		s.cluster, s.err = startStage()
	}
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.cluster
}

func startStage() (*kubetest.Cluster, error) {
	ctx, cancel := context.WithTimeout(context.Background(), churnPatience)
	defer cancel()
	c, err := kubetest.Start(ctx, kubetest.Options{Nodes: 1})
	if err != nil {
		return nil, err
	}
	for _, part := range []string{"kube-controller-manager", "kube-scheduler", "node-simulator"} {
		if err := c.Signal(part, "STOP"); err != nil {
			c.Stop()
			return nil, err
		}
	}
	return c, nil
}

// cluster is one test's use of the stage.
type cluster struct {
	kubernetes.Interface
	t    testing.TB
	on   *kubetest.Cluster
	rest *rest.Config
}

// newCluster creates objects, and deletes everything when the test ends. The
// objects it was given are as the API server has them then.
func newCluster(t testing.TB, objects ...runtime.Object) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a control plane")
	}
	on := theStage.get(t)
	c := &cluster{Interface: on.Client(t), t: t, on: on, rest: reach(t, on)}
	c.clear()
	t.Cleanup(c.clear)
	_, err := c.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{})
	c.must(ignoreExists(err))
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}} // else no pod is let in
	_, err = c.CoreV1().ServiceAccounts("shop").Create(t.Context(), account, metav1.CreateOptions{})
	c.must(ignoreExists(err))
	for _, obj := range objects {
		switch obj := obj.(type) {
		case *corev1.Pod:
			c.create(obj)
		case *corev1.Node:
			c.createNode(obj)
		case *appsv1.ReplicaSet:
			made, err := c.AppsV1().ReplicaSets(obj.Namespace).Create(t.Context(), obj, metav1.CreateOptions{})
			c.must(err)
			*obj = *made
		case *appsv1.Deployment:
			status := obj.Status
			made, err := c.AppsV1().Deployments(obj.Namespace).Create(t.Context(), obj, metav1.CreateOptions{})
			c.must(err)
			*obj = *made
			obj.Status = status
			c.updateDeployment(obj)
		default:
			t.Fatalf("no way to create a %T", obj)
		}
	}
	return c
}

// reach is how to reach a cluster's API server.
func reach(t testing.TB, c *kubetest.Cluster) *rest.Config {
	t.Helper()
	config, err := c.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func ignoreExists(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// clear deletes what tests create.
func (c *cluster) clear() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // also after the test
	defer cancel()
	now := int64(0)
	at := metav1.DeleteOptions{GracePeriodSeconds: &now}
	for _, err := range []error{
		c.CoreV1().Pods("shop").DeleteCollection(ctx, at, metav1.ListOptions{}),
		c.AppsV1().ReplicaSets("shop").DeleteCollection(ctx, at, metav1.ListOptions{}),
		c.AppsV1().Deployments("shop").DeleteCollection(ctx, at, metav1.ListOptions{}),
		ignoreGone(c.CoreV1().Nodes().Delete(ctx, node(corev1.ConditionTrue).Name, at)),
	} {
		if err != nil {
			c.t.Errorf("clear the stage: %v", err)
		}
	}
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// as is how a watcher reaches the cluster that may only do what rules say.
func (c *cluster) as(user string, rules []rbacv1.PolicyRule) *rest.Config {
	c.t.Helper()
	c.grant(user, rules)
	config := rest.CopyConfig(c.rest)
	config.Impersonate.UserName = user
	return config
}

// asUser is a client of a user.
func (c *cluster) asUser(user string) kubernetes.Interface {
	c.t.Helper()
	config := rest.CopyConfig(c.rest)
	config.Impersonate.UserName = user
	client, err := kubernetes.NewForConfig(config)
	c.must(err)
	return client
}

// grant gives a user exactly these rights.
func (c *cluster) grant(user string, rules []rbacv1.PolicyRule) {
	c.t.Helper()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: rules}
	_, err := c.RbacV1().ClusterRoles().Create(c.t.Context(), role, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = c.RbacV1().ClusterRoles().Update(c.t.Context(), role, metav1.UpdateOptions{})
	}
	c.must(err)
	_, err = c.RbacV1().ClusterRoleBindings().Create(c.t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
	}, metav1.CreateOptions{})
	c.must(ignoreExists(err))
}

// without is all rights of a watcher but those to a resource.
func without(resource string) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for _, r := range watcher.Rules() {
		if r.Resources[0] != resource {
			rules = append(rules, r)
		}
	}
	return rules
}

// sees waits until a watcher sees all that happens from now on.
func sees(t testing.TB, watchers ...*running) {
	t.Helper()
	eventually(t, func() error {
		var errs []error
		for _, r := range watchers {
			errs = append(errs, r.check("monitoring_active"))
		}
		return errors.Join(errs...)
	})
}

// create creates a pod that is as it says at once.
func (c *cluster) create(pod *corev1.Pod) {
	c.t.Helper()
	for i := range pod.OwnerReferences {
		owner, err := c.AppsV1().ReplicaSets(pod.Namespace).Get(c.t.Context(), pod.OwnerReferences[i].Name, metav1.GetOptions{})
		c.must(err)
		pod.OwnerReferences[i].UID = owner.UID
	}
	made, err := c.CoreV1().Pods(pod.Namespace).Create(c.t.Context(), pod, metav1.CreateOptions{})
	c.must(err)
	made.Status = pod.Status
	*pod = *made
	c.update(pod)
}

// update writes a pod's status.
func (c *cluster) update(pod *corev1.Pod) {
	c.t.Helper()
	pod = pod.DeepCopy()
	pod.ResourceVersion = "" // whatever there is
	_, err := c.CoreV1().Pods(pod.Namespace).UpdateStatus(c.t.Context(), pod, metav1.UpdateOptions{})
	c.must(err)
}

func (c *cluster) delete(pod *corev1.Pod) {
	c.t.Helper()
	now := int64(0)
	c.must(c.CoreV1().Pods(pod.Namespace).Delete(c.t.Context(), pod.Name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
}

func (c *cluster) createNode(n *corev1.Node) {
	c.t.Helper()
	made, err := c.CoreV1().Nodes().Create(c.t.Context(), n, metav1.CreateOptions{})
	c.must(err)
	made.Status.Conditions = n.Status.Conditions
	_, err = c.CoreV1().Nodes().UpdateStatus(c.t.Context(), made, metav1.UpdateOptions{})
	c.must(err)
}

func (c *cluster) updateNode(n *corev1.Node) {
	c.t.Helper()
	made, err := c.CoreV1().Nodes().Get(c.t.Context(), n.Name, metav1.GetOptions{})
	c.must(err)
	made.Status.Conditions = n.Status.Conditions
	_, err = c.CoreV1().Nodes().UpdateStatus(c.t.Context(), made, metav1.UpdateOptions{})
	c.must(err)
}

// updateDeployment writes a deployment's annotations and status.
func (c *cluster) updateDeployment(d *appsv1.Deployment) {
	c.t.Helper()
	made, err := c.AppsV1().Deployments(d.Namespace).Get(c.t.Context(), d.Name, metav1.GetOptions{})
	c.must(err)
	made.Annotations = d.Annotations
	made, err = c.AppsV1().Deployments(d.Namespace).Update(c.t.Context(), made, metav1.UpdateOptions{})
	c.must(err)
	made.Status = d.Status
	made.Status.ObservedGeneration = made.Generation
	_, err = c.AppsV1().Deployments(d.Namespace).UpdateStatus(c.t.Context(), made, metav1.UpdateOptions{})
	c.must(err)
}

func controlledBy(version, kind, name, uid string) []metav1.OwnerReference {
	yes := true
	return []metav1.OwnerReference{{APIVersion: version, Kind: kind, Name: name, UID: types.UID(uid), Controller: &yes}}
}

// What workloads that nobody runs are made of.
var (
	labelled    = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "checkout"}}
	podTemplate = corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: labelled.MatchLabels},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "api", Image: "canary", Command: []string{"canary"}}}},
	}
)

func replicaSet() *appsv1.ReplicaSet {
	return &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{
			Name: "checkout-7d9f6c", Namespace: "shop",
			OwnerReferences: controlledBy("apps/v1", "Deployment", "checkout", "uid-deploy"),
		},
		Spec: appsv1.ReplicaSetSpec{Selector: labelled, Template: podTemplate},
	}
}

func deployment() *appsv1.Deployment {
	three := int32(3)
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "checkout", Namespace: "shop"},
		Spec:       appsv1.DeploymentSpec{Replicas: &three, Selector: labelled, Template: podTemplate},
		Status: appsv1.DeploymentStatus{Replicas: 3, ReadyReplicas: 3, AvailableReplicas: 3, UpdatedReplicas: 1, Conditions: []appsv1.DeploymentCondition{
			{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, Reason: "MinimumReplicasAvailable"},
			{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: "ReplicaSetUpdated"},
		}},
	}
}

func healthyPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "checkout-7d9f6c-x2kpl", Namespace: "shop",
			OwnerReferences: controlledBy("apps/v1", "ReplicaSet", "checkout-7d9f6c", "given when it is created"),
		},
		Spec: corev1.PodSpec{
			NodeName:      "n1.example.internal",
			RestartPolicy: corev1.RestartPolicyAlways,
			Containers:    []corev1.Container{{Name: "api", Image: "canary", Command: []string{"canary"}, Env: []corev1.EnvVar{{Name: "TOKEN", Value: "canary"}}}},
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
		LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", Message: "lookup orders-db: no such host, token=canary"}},
	}
	return pod
}

func node(ready corev1.ConditionStatus) *corev1.Node {
	reason := map[corev1.ConditionStatus]string{
		corev1.ConditionTrue: "KubeletReady", corev1.ConditionFalse: "KubeletNotReady", corev1.ConditionUnknown: "NodeStatusUnknown",
	}
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1.example.internal"},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready, Reason: reason[ready]}}},
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
