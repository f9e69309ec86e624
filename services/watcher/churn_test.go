package watcher_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
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
}

// churnPatience allows for a job whose pods are drained again and again: its
// controller waits twice as long each time.
const churnPatience = 5 * time.Minute

func TestNothingIsPublishedAboutABusyHealthyCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	starting, cancel := context.WithTimeout(t.Context(), churnPatience)
	defer cancel()
	cluster, err := kubetest.Start(starting, kubetest.Options{Nodes: 4})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	c := &churn{Cluster: cluster, kube: cluster.Client(t), ns: cluster.Namespace(t)}

	server := bustest.Start(t)
	events := read(t, server)
	r := run(t, watcher.Config{
		HealthCheckInterval: time.Second, RecoveryTimeout: time.Second,
		PodCheckInterval: 10 * time.Second, PodRestartThreshold: 5,
		NodeCheckInterval: 5 * time.Second, NodeFailureThreshold: 3,
	}, reach(t, cluster), server.Bus(t, watcher.Name))
	kubetest.Eventually(t, churnPatience, func(context.Context) error {
		return errors.Join(r.check("k8s_connection"), r.check("monitoring_active"))
	})

	moves, ctx := errgroup.WithContext(t.Context())
	end := time.Now().Add(*churnFor)
	for name, move := range map[string]func(context.Context, int) error{
		"deployments scaled up, down and to zero": c.scale,
		"roll-outs of good images":                c.rollOut,
		"nodes drained":                           c.drainOne,
		"nodes replaced":                          c.replaceNode,
		"jobs that end":                           c.runJob,
		"pods held back by a gate":                c.gate,
		"cron jobs that run every minute":         c.runCronJob,
	} {
		moves.Go(func() error {
			rounds := 0
			for ; rounds == 0 || time.Now().Before(end); rounds++ {
				if err := move(ctx, rounds); err != nil {
					return fmt.Errorf("%s, round %d: %w", name, rounds, err)
				}
			}
			t.Logf("%s: %d rounds", name, rounds)
			return nil
		})
	}
	if err := moves.Wait(); err != nil {
		t.Error(err)
	}
	if all := events.all(); len(all) != 0 {
		t.Errorf("%d events about a healthy cluster, the first: %+v", len(all), all[0])
	}

	// The watcher did see all of it: what is really broken is announced.
	if err := c.createPod(t.Context(), "broken", "shop/api:invalid-image", nil); err != nil {
		t.Fatal(err)
	}
	if got := events.wait(1)[0]; got.Reason != "InvalidImageName" || got.Target.Name != "broken" {
		t.Errorf("event = %+v, want the broken pod's", got)
	}
}

func (c *churn) scale(ctx context.Context, round int) error {
	if round == 0 {
		if err := c.deploy(ctx, "scaled", 3); err != nil {
			return err
		}
	}
	replicas := []int32{5, 0, 1, 3}[round%4]
	if err := c.patchDeployment(ctx, "scaled", fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)); err != nil {
		return err
	}
	return c.complete(ctx, "scaled")
}

func (c *churn) rollOut(ctx context.Context, round int) error {
	if round == 0 {
		if err := c.deploy(ctx, "rolled", 3); err != nil {
			return err
		}
	}
	image := fmt.Sprintf(`{"spec":{"template":{"spec":{"containers":[{"name":"app","image":"shop/api:v%d"}]}}}}`, round)
	if err := c.patchDeployment(ctx, "rolled", image); err != nil {
		return err
	}
	return c.complete(ctx, "rolled")
}

// drainOne drains one of the first two nodes, and lets it be used again.
func (c *churn) drainOne(ctx context.Context, round int) error {
	nodes, err := c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "!extra"})
	if err != nil {
		return err
	}
	name := nodes.Items[round%2].Name
	if err := c.patchNode(ctx, name, `{"spec":{"unschedulable":true}}`); err != nil {
		return err
	}
	if err := c.evictAll(ctx, name); err != nil {
		return err
	}
	return c.patchNode(ctx, name, `{"spec":{"unschedulable":null}}`)
}

// replaceNode adds a node, uses it, and has it taken away as an autoscaler
// does: it is not ready for longer than a node may be before it is gone.
func (c *churn) replaceNode(ctx context.Context, round int) error {
	name := fmt.Sprintf("extra-%d", round)
	if err := c.AddNode(ctx, name, "zone-1", map[string]string{"extra": name}); err != nil {
		return err
	}
	if err := c.createPod(ctx, name, "good", map[string]string{"extra": name}); err != nil {
		return err
	}
	if err := wait(ctx, func() error { return c.runs(ctx, name) }); err != nil {
		return err
	}
	leaving := `{"spec":{"unschedulable":true,"taints":[{"key":"ToBeDeletedByClusterAutoscaler","effect":"NoSchedule"}]}}`
	if err := c.patchNode(ctx, name, leaving); err != nil {
		return err
	}
	if err := c.evictAll(ctx, name); err != nil {
		return err
	}
	if err := c.StopNode(ctx, name); err != nil {
		return err
	}
	if err := wait(ctx, func() error { return c.silentFor(ctx, name, 16*time.Second) }); err != nil {
		return err
	}
	return c.RemoveNode(ctx, name)
}

// silentFor reports why a node has not been not ready for so long.
func (c *churn) silentFor(ctx context.Context, name string, d time.Duration) error {
	n, err := c.kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range n.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status != corev1.ConditionTrue && time.Since(condition.LastTransitionTime.Time) >= d {
			return nil
		}
	}
	return fmt.Errorf("node %s has not been silent for %s", name, d)
}

func (c *churn) runJob(ctx context.Context, round int) error {
	name, three := fmt.Sprintf("job-%d", round), int32(3)
	jobs := c.kube.BatchV1().Jobs(c.ns)
	_, err := jobs.Create(ctx, &batchv1.Job{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: batchv1.JobSpec{Completions: &three, Parallelism: &three, Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
			RestartPolicy:  corev1.RestartPolicyNever,
			InitContainers: []corev1.Container{{Name: "setup", Image: "good"}},
			Containers:     []corev1.Container{{Name: "app", Image: "complete"}},
		}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	err = wait(ctx, func() error {
		j, err := jobs.Get(ctx, name, metav1.GetOptions{})
		if err == nil && j.Status.Succeeded < 3 {
			err = fmt.Errorf("%d of 3 pods of %s have succeeded", j.Status.Succeeded, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	return jobs.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background})
}

// runCronJob lets a cron job run once, while its turns may overlap with a
// drain, and takes it away with what it made.
func (c *churn) runCronJob(ctx context.Context, round int) error {
	name := fmt.Sprintf("cron-%d", round)
	crons := c.kube.BatchV1().CronJobs(c.ns)
	_, err := crons.Create(ctx, &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: batchv1.CronJobSpec{
			Schedule: "* * * * *", ConcurrencyPolicy: batchv1.ForbidConcurrent,
			JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: corev1.PodTemplateSpec{Spec: corev1.PodSpec{
				RestartPolicy: corev1.RestartPolicyOnFailure,
				Containers:    []corev1.Container{{Name: "app", Image: "complete"}},
			}}}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	err = wait(ctx, func() error {
		cron, err := crons.Get(ctx, name, metav1.GetOptions{})
		if err == nil && cron.Status.LastSuccessfulTime == nil {
			err = fmt.Errorf("cron job %s has not run", name)
		}
		return err
	})
	if err != nil {
		return err
	}
	background := metav1.DeletePropagationBackground
	return crons.Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background})
}

func (c *churn) gate(ctx context.Context, round int) error {
	name := fmt.Sprintf("gated-%d", round)
	pods := c.kube.CoreV1().Pods(c.ns)
	p := churnPod(name, "good", nil)
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/quota"}}
	if _, err := pods.Create(ctx, p, metav1.CreateOptions{}); err != nil {
		return err
	}
	open := []byte(`{"spec":{"schedulingGates":null}}`)
	if _, err := pods.Patch(ctx, name, types.MergePatchType, open, metav1.PatchOptions{}); err != nil {
		return err
	}
	if err := wait(ctx, func() error { return ignoreGone(c.runs(ctx, name)) }); err != nil {
		return err
	}
	return ignoreGone(pods.Delete(ctx, name, metav1.DeleteOptions{}))
}

// runs reports why a pod does not run.
func (c *churn) runs(ctx context.Context, name string) error {
	p, err := c.kube.CoreV1().Pods(c.ns).Get(ctx, name, metav1.GetOptions{})
	if err == nil && p.Status.Phase != corev1.PodRunning {
		err = fmt.Errorf("pod %s is %s", name, p.Status.Phase)
	}
	return err
}

// ignoreGone is err, unless it says that a drain was quicker.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// wait asks until check returns nil, or for so long that nothing can be
// expected any more.
func wait(ctx context.Context, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, churnPatience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("still: %w", err)
		case <-tick.C:
		}
	}
}

func churnPod(name, image string, selector map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeSelector: selector, Containers: []corev1.Container{{Name: "app", Image: image}},
	}}
}

func (c *churn) createPod(ctx context.Context, name, image string, selector map[string]string) error {
	_, err := c.kube.CoreV1().Pods(c.ns).Create(ctx, churnPod(name, image, selector), metav1.CreateOptions{})
	return err
}

func (c *churn) deploy(ctx context.Context, name string, replicas int32) error {
	labels := map[string]string{"app": name}
	_, err := c.kube.AppsV1().Deployments(c.ns).Create(ctx, &appsv1.Deployment{
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
		return err
	}
	return c.complete(ctx, name)
}

// complete waits until the deployment is as its spec says.
func (c *churn) complete(ctx context.Context, name string) error {
	return wait(ctx, func() error {
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

func (c *churn) patchDeployment(ctx context.Context, name, patch string) error {
	_, err := c.kube.AppsV1().Deployments(c.ns).Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

func (c *churn) patchNode(ctx context.Context, name, patch string) error {
	_, err := c.kube.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// evictAll evicts what runs on a node, and waits until it is gone.
func (c *churn) evictAll(ctx context.Context, node string) error {
	return wait(ctx, func() error {
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
			if p.DeletionTimestamp != nil {
				continue
			}
			err := c.kube.CoreV1().Pods(c.ns).EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: p.Name}})
			if ignoreGone(err) != nil {
				return err
			}
		}
		if left > 0 {
			return fmt.Errorf("%d pods are left on %s", left, node)
		}
		return nil
	})
}
