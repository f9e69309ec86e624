package kubetest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

func TestMain(m *testing.M) { os.Exit(kubetest.Main(m, kubetest.Options{})) }

func TestADeploymentRunsAndABrokenImageCrashLoops(t *testing.T) {
	c := kubetest.Get(t)
	k, ns := c.Client(t), c.Namespace(t)
	deploy(t, k, ns, "shop/api:good", 3)
	available(t, k, ns, 3)

	patch := []byte(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"shop/api:broken"}]}}}}`)
	if _, err := k.AppsV1().Deployments(ns).Patch(t.Context(), "web", types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
		pods, err := k.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, p := range pods.Items {
			for _, s := range p.Status.ContainerStatuses {
				if w := s.State.Waiting; w != nil && w.Reason == "CrashLoopBackOff" && s.LastTerminationState.Terminated.ExitCode == 1 {
					return nil
				}
			}
		}
		return errors.New("no pod is in a crash loop")
	})
	available(t, k, ns, 3) // the roll-out waits, the good pods stay
}

func TestOnePodsOwnBehaviourIsNotItsReplacements(t *testing.T) {
	c := kubetest.Get(t)
	k, ns := c.Client(t), c.Namespace(t)
	deploy(t, k, ns, "shop/api:good", 1)
	available(t, k, ns, 1)
	sick := firstPod(t, k, ns)
	if err := c.SetBehaviour(t.Context(), ns, sick.Name, "crash"); err != nil {
		t.Fatal(err)
	}
	available(t, k, ns, 0)
	if err := k.CoreV1().Pods(ns).Delete(t.Context(), sick.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	available(t, k, ns, 1)
}

func TestAPodOnAStoppedNodeStaysTerminating(t *testing.T) {
	c := kubetest.Get(t)
	k, ns := c.Client(t), c.Namespace(t)
	if err := c.AddNode(t.Context(), "fragile", "zone-1", map[string]string{"only": ns}); err != nil {
		t.Fatal(err)
	}
	nodeReady(t, k, "fragile", corev1.ConditionTrue)
	if err := c.SetPressure(t.Context(), "fragile", corev1.NodeDiskPressure); err != nil {
		t.Fatal(err)
	}
	nodeCondition(t, k, "fragile", corev1.NodeDiskPressure, corev1.ConditionTrue)
	if err := c.SetPressure(t.Context(), "fragile"); err != nil {
		t.Fatal(err)
	}
	nodeCondition(t, k, "fragile", corev1.NodeDiskPressure, corev1.ConditionFalse)

	pod, err := k.CoreV1().Pods(ns).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: corev1.PodSpec{
			NodeSelector: map[string]string{"only": ns},
			Containers:   []corev1.Container{{Name: "app", Image: "good"}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	podReady(t, k, ns, pod.Name)

	if err := c.StopNode(t.Context(), "fragile"); err != nil {
		t.Fatal(err)
	}
	nodeReady(t, k, "fragile", corev1.ConditionUnknown)
	if err := k.CoreV1().Pods(ns).Delete(t.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	// A pod of a living node goes meanwhile; this one does not.
	deploy(t, k, ns, "good", 1)
	available(t, k, ns, 1)
	alive := firstPod(t, k, ns, "app=web")
	if err := k.CoreV1().Pods(ns).Delete(t.Context(), alive.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	gone(t, k, ns, alive.Name)
	if p, err := k.CoreV1().Pods(ns).Get(t.Context(), pod.Name, metav1.GetOptions{}); err != nil || p.DeletionTimestamp == nil {
		t.Fatalf("the pod on the stopped node: %v, deleted %v", err, p.DeletionTimestamp)
	}
	if err := c.StartNode(t.Context(), "fragile"); err != nil {
		t.Fatal(err)
	}
	nodeReady(t, k, "fragile", corev1.ConditionTrue)
	gone(t, k, ns, pod.Name)
	if err := c.RemoveNode(t.Context(), "fragile"); err != nil {
		t.Fatal(err)
	}
}

func TestTheAuditLogShowsWritesAndTheirPreconditions(t *testing.T) {
	c := kubetest.Get(t)
	k, ns := c.Client(t), c.Namespace(t)
	deploy(t, k, ns, "good", 1)
	available(t, k, ns, 1)
	p := firstPod(t, k, ns)

	config, err := c.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	config.UserAgent = "audited/" + ns // the log also has what earlier runs of this test did
	audited, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	eviction := &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Name: p.Name, Namespace: ns},
		DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID)), DryRun: []string{metav1.DryRunAll}},
	}
	if err := audited.CoreV1().Pods(ns).EvictV1(t.Context(), eviction); err != nil {
		t.Fatal(err)
	}
	wrong := metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("another")}
	if err := audited.CoreV1().Pods(ns).Delete(t.Context(), p.Name, wrong); err == nil {
		t.Fatal("a delete with another object's UID succeeded")
	}
	type write struct {
		Verb, Resource, Subresource, UID string
		Code                             int
		DryRun                           bool
	}
	var got []write
	for _, e := range kubetest.Mutations(c.Audit(t), config.UserAgent) {
		got = append(got, write{e.Verb, e.Resource, e.Subresource, e.UID, e.Code, e.DryRun})
	}
	want := []write{
		{"create", "pods", "eviction", string(p.UID), 201, true},
		{"delete", "pods", "", "another", 409, false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func TestTheAPIServerComesBackAfterAKill(t *testing.T) {
	c := kubetest.Get(t)
	k, ns := c.Client(t), c.Namespace(t)
	before := components(t, c)["kube-apiserver"]
	if err := c.Signal("kube-apiserver", "KILL"); err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, 30*time.Second, func(context.Context) error {
		if components(t, c)["kube-apiserver"] == before {
			return errors.New("the API server was not started again")
		}
		return nil
	})
	kubetest.Eventually(t, 30*time.Second, func(ctx context.Context) error {
		_, err := k.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{})
		return err
	})
}

func TestNothingIsLeftOfAClusterWhoseSupervisorIsKilled(t *testing.T) {
	c, err := kubetest.Start(t.Context(), kubetest.Options{Nodes: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(c.Dir) // the killed supervisor could not
	pids := components(t, c)
	if len(pids) != 5 {
		t.Fatalf("components %v, want 5", pids)
	}
	supervisor := state(t, c).Supervisor
	if err := syscall.Kill(supervisor, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, 10*time.Second, func(context.Context) error {
		for name, pid := range pids {
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("%s is still there", name)
			}
		}
		return nil
	})
	c.Stop()
}

type clusterState struct {
	Supervisor int
	Components map[string]struct{ PID int }
}

func state(t *testing.T, c *kubetest.Cluster) clusterState {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.Dir, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s clusterState
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func components(t *testing.T, c *kubetest.Cluster) map[string]int {
	t.Helper()
	pids := make(map[string]int)
	for name, p := range state(t, c).Components {
		pids[name] = p.PID
	}
	return pids
}

func deploy(t *testing.T, k kubernetes.Interface, ns, image string, replicas int32) {
	t.Helper()
	labels := map[string]string{"app": "web"}
	_, err := k.AppsV1().Deployments(ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: image}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

func available(t *testing.T, k kubernetes.Interface, ns string, want int32) {
	t.Helper()
	kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
		d, err := k.AppsV1().Deployments(ns).Get(ctx, "web", metav1.GetOptions{})
		if err == nil && d.Status.AvailableReplicas != want {
			err = fmt.Errorf("%d replicas are available, want %d", d.Status.AvailableReplicas, want)
		}
		return err
	})
}

func firstPod(t *testing.T, k kubernetes.Interface, ns string, selector ...string) corev1.Pod {
	t.Helper()
	opts := metav1.ListOptions{}
	if len(selector) > 0 {
		opts.LabelSelector = selector[0]
	}
	pods, err := k.CoreV1().Pods(ns).List(t.Context(), opts)
	if err != nil || len(pods.Items) == 0 {
		t.Fatalf("list pods: %d, %v", len(pods.Items), err)
	}
	return pods.Items[0]
}

func podReady(t *testing.T, k kubernetes.Interface, ns, name string) {
	t.Helper()
	kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
		p, err := k.CoreV1().Pods(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return fmt.Errorf("pod %s is not ready: %v", name, p.Status.Conditions)
	})
}

func gone(t *testing.T, k kubernetes.Interface, ns, name string) {
	t.Helper()
	kubetest.Eventually(t, 20*time.Second, func(ctx context.Context) error {
		pods, err := k.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("pod %s is still there", name)
		}
		return err
	})
}

func nodeReady(t *testing.T, k kubernetes.Interface, name string, want corev1.ConditionStatus) {
	t.Helper()
	nodeCondition(t, k, name, corev1.NodeReady, want)
}

func nodeCondition(t *testing.T, k kubernetes.Interface, name string, kind corev1.NodeConditionType, want corev1.ConditionStatus) {
	t.Helper()
	kubetest.Eventually(t, 30*time.Second, func(ctx context.Context) error {
		n, err := k.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, c := range n.Status.Conditions {
			if c.Type == kind && c.Status == want {
				return nil
			}
		}
		return fmt.Errorf("node %s has conditions %v, want %s=%s", name, n.Status.Conditions, kind, want)
	})
}
