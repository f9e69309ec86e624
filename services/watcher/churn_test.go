package watcher_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/watcher"
)

var churnFor = flag.Duration("churn", 45*time.Second, "how long the churn test goes on")

// churn is a busy and healthy cluster. Every move of it is one that people and
// their tools make every day; each waits for what the move leads to.
type churn struct {
	*kubetest.Cluster
	kube kubernetes.Interface
	ns   string
	end  time.Time
}

const churnPatience = 2 * time.Minute

func TestNothingIsPublishedAboutABusyHealthyCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	ctx, cancel := context.WithTimeout(t.Context(), churnPatience)
	defer cancel()
	cluster, err := kubetest.Start(ctx, kubetest.Options{Nodes: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	c := &churn{Cluster: cluster, kube: cluster.Client(t), ns: cluster.Namespace(t), end: time.Now().Add(*churnFor)}

	server := bustest.Start(t)
	events := read(t, server)
	r := run(t, watcher.Config{
		HealthCheckInterval: time.Second, RecoveryTimeout: time.Second,
		PodCheckInterval: 10 * time.Second, PodRestartThreshold: 5,
		NodeCheckInterval: 5 * time.Second, NodeFailureThreshold: 3,
	}, c.kube, server.Bus(t, watcher.Name))
	kubetest.Eventually(t, churnPatience, func(context.Context) error {
		return errors.Join(r.check("k8s_connection"), r.check("monitoring_active"))
	})

	t.Run("churn", func(t *testing.T) {
		for name, move := range map[string]func(*testing.T, int){
			"deployments scaled up, down and to zero": c.scale,
			"roll-outs of good images":                c.rollOut,
			"nodes drained":                           c.drainOne,
			"nodes replaced":                          c.replaceNode,
			"jobs that end":                           c.runJob,
			"pods held back by a gate":                c.gate,
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				rounds := 0
				for ; time.Now().Before(c.end); rounds++ {
					move(t, rounds)
				}
				t.Logf("%d rounds", rounds)
			})
		}
	})
	if all := events.all(); len(all) != 0 {
		t.Errorf("%d events about a healthy cluster, the first: %+v", len(all), all[0])
	}

	// The watcher did see all of it: what is really broken is announced.
	c.createPod(t, "broken", "shop/api:invalid-image", nil)
	if got := events.wait(1)[0]; got.Reason != "InvalidImageName" || got.Target.Name != "broken" {
		t.Errorf("event = %+v, want the broken pod's", got)
	}
}

func (c *churn) scale(t *testing.T, round int) {
	if round == 0 {
		c.deploy(t, "scaled", 3)
	}
	replicas := []int32{5, 0, 1, 3}[round%4]
	c.patchDeployment(t, "scaled", fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas))
	c.complete(t, "scaled")
}

func (c *churn) rollOut(t *testing.T, round int) {
	if round == 0 {
		c.deploy(t, "rolled", 3)
	}
	c.patchDeployment(t, "rolled", fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"shop/api:v%d"}]}}}}`, round))
	c.complete(t, "rolled")
}

// drainOne drains one of the first two nodes, and lets it be used again.
func (c *churn) drainOne(t *testing.T, round int) {
	nodes, err := c.kube.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{LabelSelector: "!extra"})
	if err != nil {
		t.Fatal(err)
	}
	name := nodes.Items[round%2].Name
	c.patchNode(t, name, `{"spec":{"unschedulable":true}}`)
	c.evictAll(t, name)
	c.patchNode(t, name, `{"spec":{"unschedulable":null}}`)
}

// replaceNode adds a node, fills it, and has it taken away as an autoscaler
// does: it is not ready for a while before it is gone.
func (c *churn) replaceNode(t *testing.T, round int) {
	name := fmt.Sprintf("extra-%d", round)
	if err := c.AddNode(t.Context(), name, "zone-1", map[string]string{"extra": name}); err != nil {
		t.Fatal(err)
	}
	c.createPod(t, name, "good", map[string]string{"extra": name})
	kubetest.Eventually(t, churnPatience, func(ctx context.Context) error {
		p, err := c.kube.CoreV1().Pods(c.ns).Get(ctx, name, metav1.GetOptions{})
		if err == nil && p.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("pod %s is %s", name, p.Status.Phase)
		}
		return err
	})
	c.patchNode(t, name, `{"spec":{"unschedulable":true,"taints":[{"key":"ToBeDeletedByClusterAutoscaler","effect":"NoSchedule"}]}}`)
	c.evictAll(t, name)
	if err := c.StopNode(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, churnPatience, func(ctx context.Context) error {
		n, err := c.kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range n.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				return errors.New("the node that was stopped is still ready")
			}
		}
		return nil
	})
	if err := c.RemoveNode(t.Context(), name); err != nil {
		t.Fatal(err)
	}
}

func (c *churn) runJob(t *testing.T, round int) {
	name, three := fmt.Sprintf("job-%d", round), int32(3)
	jobs := c.kube.BatchV1().Jobs(c.ns)
	_, err := jobs.Create(t.Context(), &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: batchv1.JobSpec{Completions: &three, Parallelism: &three, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy:  corev1.RestartPolicyNever,
			InitContainers: []corev1.Container{{Name: "setup", Image: "good"}},
			Containers:     []corev1.Container{{Name: "app", Image: "complete"}},
		}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, churnPatience, func(ctx context.Context) error {
		j, err := jobs.Get(ctx, name, metav1.GetOptions{})
		if err == nil && j.Status.Succeeded < 3 {
			err = fmt.Errorf("%d of 3 pods of %s have succeeded", j.Status.Succeeded, name)
		}
		return err
	})
	background := metav1.DeletePropagationBackground
	if err := jobs.Delete(t.Context(), name, metav1.DeleteOptions{PropagationPolicy: &background}); err != nil {
		t.Fatal(err)
	}
}

func (c *churn) gate(t *testing.T, round int) {
	name := fmt.Sprintf("gated-%d", round)
	pods := c.kube.CoreV1().Pods(c.ns)
	p := churnPod(name, "good", nil)
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/quota"}}
	if _, err := pods.Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := pods.Patch(t.Context(), name, types.MergePatchType, []byte(`{"spec":{"schedulingGates":null}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	kubetest.Eventually(t, churnPatience, func(ctx context.Context) error {
		p, err := pods.Get(ctx, name, metav1.GetOptions{})
		if err == nil && p.Status.Phase != corev1.PodRunning {
			err = fmt.Errorf("pod %s is %s", name, p.Status.Phase)
		}
		return ignoreGone(err)
	})
	if err := ignoreGone(pods.Delete(t.Context(), name, metav1.DeleteOptions{})); err != nil {
		t.Fatal(err)
	}
}

// ignoreGone is err, unless it says that a drain was quicker.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func churnPod(name, image string, selector map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeSelector: selector, Containers: []corev1.Container{{Name: "app", Image: image}},
	}}
}

func (c *churn) createPod(t *testing.T, name, image string, selector map[string]string) {
	t.Helper()
	if _, err := c.kube.CoreV1().Pods(c.ns).Create(t.Context(), churnPod(name, image, selector), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (c *churn) deploy(t *testing.T, name string, replicas int32) {
	t.Helper()
	labels := map[string]string{"app": name}
	_, err := c.kube.AppsV1().Deployments(c.ns).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "shop/api:good"}}},
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c.complete(t, name)
}

// complete waits until the deployment is as its spec says.
func (c *churn) complete(t *testing.T, name string) {
	t.Helper()
	kubetest.Eventually(t, churnPatience, func(ctx context.Context) error {
		d, err := c.kube.AppsV1().Deployments(c.ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s, want := d.Status, *d.Spec.Replicas
		if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != want || s.AvailableReplicas != want || s.Replicas != want {
			return fmt.Errorf("deployment %s: %d replicas, %d updated, %d available; want %d", name, s.Replicas, s.UpdatedReplicas, s.AvailableReplicas, want)
		}
		return nil
	})
}

func (c *churn) patchDeployment(t *testing.T, name, patch string) {
	t.Helper()
	if _, err := c.kube.AppsV1().Deployments(c.ns).Patch(t.Context(), name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

func (c *churn) patchNode(t *testing.T, name, patch string) {
	t.Helper()
	if _, err := c.kube.CoreV1().Nodes().Patch(t.Context(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}

// evictAll evicts what runs on a node, and waits until it is gone.
func (c *churn) evictAll(t *testing.T, node string) {
	t.Helper()
	kubetest.Eventually(t, churnPatience, func(ctx context.Context) error {
		pods, err := c.kube.CoreV1().Pods(c.ns).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
		if err != nil {
			return err
		}
		left := 0
		for _, p := range pods.Items {
			if p.Status.Phase == corev1.PodSucceeded {
				continue
			}
			left++
			if p.DeletionTimestamp == nil {
				err := c.kube.CoreV1().Pods(c.ns).EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: p.Name}})
				if ignoreGone(err) != nil {
					return err
				}
			}
		}
		if left > 0 {
			return fmt.Errorf("%d pods are left on %s", left, node)
		}
		return nil
	})
}
