package watcher_test

import (
	"context"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

const (
	churnNodes = 4 // that stay; further ones come and go, and have the label extra
	extra      = "extra"

	// A node is silent for longer than one may be before that is a failure.
	churnNodeInterval = 6 * time.Second
	churnSilence      = 3*churnNodeInterval + time.Second
)

func (c *churn) patchNode(ctx context.Context, name, patch string) error {
	return c.patch(ctx, "/api/v1/nodes/"+name, patch)
}

func (c *churn) cordon(ctx context.Context, name string) error {
	return c.patchNode(ctx, name, `{"spec":{"unschedulable":true}}`)
}

func (c *churn) uncordon(ctx context.Context, name string) error {
	return c.patchNode(ctx, name, `{"spec":{"unschedulable":null}}`)
}

// addNode adds a node for one move, and runs a workload on it.
func (c *churn) addNode(ctx context.Context, name string) error {
	if err := c.AddNode(ctx, name, "zone-1", map[string]string{extra: name}); err != nil {
		return err
	}
	return c.deployAs(ctx, "on-"+name, 2, only(name))
}

// only keeps a deployment on one node.
func only(node string) func(*appsv1.Deployment) {
	return func(d *appsv1.Deployment) { d.Spec.Template.Spec.NodeSelector = map[string]string{extra: node} }
}

// dropNode takes away a node, with the workload that was for it alone.
func (c *churn) dropNode(ctx context.Context, name string) error {
	if err := c.remove(ctx, c.apps("deployments", "on-"+name)); err != nil {
		return err
	}
	if err := c.cordon(ctx, name); err != nil {
		return err
	}
	if err := c.evictAll(ctx, name); err != nil {
		return err
	}
	return c.RemoveNode(ctx, name)
}

// drainOne drains one of the nodes that stay, and lets it be used again.
func (c *churn) drainOne(ctx context.Context, round int) error {
	nodes, err := c.kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "!" + extra})
	if err != nil {
		return err
	}
	name := nodes.Items[round%2].Name
	if err := c.cordon(ctx, name); err != nil {
		return err
	}
	if err := c.evictAll(ctx, name); err != nil {
		return err
	}
	return c.uncordon(ctx, name)
}

// replaceNode adds a node, uses it, and has it taken away as autoscalers do:
// it is silent for longer than a node may be before it is gone.
func (c *churn) replaceNode(ctx context.Context, round int) error {
	name := fmt.Sprint("scaled-down-", round)
	if err := c.addNode(ctx, name); err != nil {
		return err
	}
	taint := []string{"ToBeDeletedByClusterAutoscaler", "karpenter.sh/disrupted"}[round%2]
	if err := c.patchNode(ctx, name, fmt.Sprintf(`{"spec":{"taints":[{"key":%q,"effect":"NoSchedule"}]}}`, taint)); err != nil {
		return err
	}
	if err := c.remove(ctx, c.apps("deployments", "on-"+name)); err != nil { // what an autoscaler waits for
		return err
	}
	if err := c.evictAll(ctx, name); err != nil {
		return err
	}
	if err := c.silence(ctx, name); err != nil {
		return err
	}
	return c.RemoveNode(ctx, name)
}

// exchangeNode has a new node take the place of an old one, by hand.
func (c *churn) exchangeNode(ctx context.Context, round int) error {
	old, next := fmt.Sprint("old-", round), fmt.Sprint("next-", round)
	for _, name := range []string{old, next} {
		if err := c.addNode(ctx, name); err != nil {
			return err
		}
	}
	if err := c.cordon(ctx, old); err != nil {
		return err
	}
	if err := c.remove(ctx, c.apps("deployments", "on-"+old)); err != nil {
		return err
	}
	if err := c.evictAll(ctx, old); err != nil {
		return err
	}
	if err := c.silence(ctx, old); err != nil {
		return err
	}
	if err := c.RemoveNode(ctx, old); err != nil {
		return err
	}
	return c.dropNode(ctx, next)
}

// rebootNode does with a node what an upgrade of its system does, as far as
// the cluster sees it.
func (c *churn) rebootNode(ctx context.Context, round int) error {
	name := fmt.Sprint("upgraded-", round)
	if err := c.addNode(ctx, name); err != nil {
		return err
	}
	if err := c.cordon(ctx, name); err != nil {
		return err
	}
	if err := c.evictAll(ctx, name); err != nil {
		return err
	}
	if err := c.silence(ctx, name); err != nil {
		return err
	}
	n, err := c.kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	boot := []byte(fmt.Sprintf(`{"status":{"nodeInfo":{"bootID":"boot-%d"}}}`, round))
	if _, err := c.kube.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, boot, metav1.PatchOptions{}, "status"); err != nil {
		return err
	}
	_, err = c.kube.CoreV1().Events(metav1.NamespaceDefault).Create(ctx, &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{GenerateName: name + "."},
		InvolvedObject: corev1.ObjectReference{Kind: "Node", Name: name, UID: types.UID(name)},
		Type:           corev1.EventTypeWarning, Reason: "Rebooted", LastTimestamp: metav1.Now(),
		Message: fmt.Sprintf("Node %s has been rebooted, boot id: boot-%d", n.Name, round),
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	if err := c.StartNode(ctx, name); err != nil {
		return err
	}
	if err := wait(ctx, func() error { return c.nodeReady(ctx, name, corev1.ConditionTrue, 0) }); err != nil {
		return err
	}
	if err := c.uncordon(ctx, name); err != nil {
		return err
	}
	if err := c.complete(ctx, "on-"+name); err != nil {
		return err
	}
	c.linger(ctx, 30*time.Second)
	return c.dropNode(ctx, name)
}

// hiccup silences a node for less time than one may be silent.
func (c *churn) hiccup(ctx context.Context, round int) error {
	name := fmt.Sprint("brief-", round)
	if err := c.addNode(ctx, name); err != nil {
		return err
	}
	if err := c.StopNode(ctx, name); err != nil {
		return err
	}
	if err := wait(ctx, func() error { return c.nodeReady(ctx, name, corev1.ConditionUnknown, 0) }); err != nil {
		return err
	}
	if err := c.StartNode(ctx, name); err != nil {
		return err
	}
	if err := c.complete(ctx, "on-"+name); err != nil {
		return err
	}
	return c.dropNode(ctx, name)
}

// taintNode empties a node by a taint: what runs there is marked as disrupted
// on purpose, and deleted.
func (c *churn) taintNode(ctx context.Context, round int) error {
	name := fmt.Sprint("tainted-", round)
	if err := c.addNode(ctx, name); err != nil {
		return err
	}
	if err := c.patchNode(ctx, name, `{"spec":{"taints":[{"key":"example.com/maintenance","effect":"NoExecute"}]}}`); err != nil {
		return err
	}
	err := wait(ctx, func() error {
		pods, err := c.podsOn(ctx, name)
		if err == nil && len(pods) > 0 {
			err = fmt.Errorf("%d pods are left on %s", len(pods), name)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := c.patchNode(ctx, name, `{"spec":{"taints":null}}`); err != nil {
		return err
	}
	if err := c.complete(ctx, "on-"+name); err != nil {
		return err
	}
	return c.dropNode(ctx, name)
}

// silence stops a node's kubelet, and waits for longer than one may be silent.
func (c *churn) silence(ctx context.Context, name string) error {
	if err := c.StopNode(ctx, name); err != nil {
		return err
	}
	return wait(ctx, func() error { return c.nodeReady(ctx, name, corev1.ConditionUnknown, churnSilence) })
}

// nodeReady reports why a node's readiness has not been so for so long.
func (c *churn) nodeReady(ctx context.Context, name string, status corev1.ConditionStatus, d time.Duration) error {
	n, err := c.kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range n.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == status && time.Since(condition.LastTransitionTime.Time) >= d {
			return nil
		}
	}
	return fmt.Errorf("readiness of node %s has not been %s for %s", name, status, d)
}

// podsOn is what a drain has to wait for: not the pods of daemon sets, and not
// those that are done.
func (c *churn) podsOn(ctx context.Context, node string) ([]corev1.Pod, error) {
	list, err := c.kube.CoreV1().Pods(metav1.NamespaceAll).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + node})
	if err != nil {
		return nil, err
	}
	var pods []corev1.Pod
	for _, p := range list.Items {
		if owner := metav1.GetControllerOf(&p); owner != nil && owner.Kind == "DaemonSet" ||
			p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
			continue
		}
		pods = append(pods, p)
	}
	return pods, nil
}

// evictAll evicts what runs on a node, and waits until it is gone.
func (c *churn) evictAll(ctx context.Context, node string) error {
	return wait(ctx, func() error {
		pods, err := c.podsOn(ctx, node)
		if err != nil {
			return err
		}
		for _, p := range pods {
			if p.DeletionTimestamp != nil {
				continue
			}
			err := c.kube.CoreV1().Pods(p.Namespace).EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: p.Name}})
			if ignoreGone(err) != nil && !apierrors.IsTooManyRequests(err) { // a disruption budget's word
				return err
			}
		}
		if len(pods) > 0 {
			return fmt.Errorf("%d pods are left on %s", len(pods), node)
		}
		return nil
	})
}

// holdUp has a budget that lets nobody go for a while, and then some.
func (c *churn) holdUp(ctx context.Context, _ int) error {
	if err := c.deploy(ctx, "guarded", 3); err != nil {
		return err
	}
	three := intstr.FromInt32(3)
	_, err := c.kube.PolicyV1().PodDisruptionBudgets(c.ns).Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: "guarded"},
		Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &three, Selector: selectorOf("guarded")},
	}, metav1.CreateOptions{})
	if ignoreExists(err) != nil {
		return err
	}
	c.linger(ctx, 10*time.Second)
	for _, replicas := range []int{5, 3} {
		if err := c.patchDeployment(ctx, "guarded", fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)); err != nil {
			return err
		}
		if err := c.complete(ctx, "guarded"); err != nil {
			return err
		}
		c.linger(ctx, 10*time.Second)
	}
	return c.remove(ctx, "/apis/policy/v1/namespaces/"+c.ns+"/poddisruptionbudgets/guarded")
}

// preempt has a pod that is more important take the room of others.
func (c *churn) preempt(ctx context.Context, round int) error {
	err := unlessExists(c.kube.SchedulingV1().PriorityClasses().Create(ctx, &schedulingv1.PriorityClass{
		ObjectMeta: metav1.ObjectMeta{Name: "important"}, Value: 1000,
	}, metav1.CreateOptions{}))
	if err != nil {
		return err
	}
	name := fmt.Sprint("crowded-", round)
	if err := c.AddNode(ctx, name, "zone-1", map[string]string{extra: name}); err != nil {
		return err
	}
	var most resource.Quantity
	err = wait(ctx, func() error {
		n, err := c.kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err == nil && n.Status.Allocatable.Cpu().IsZero() {
			err = fmt.Errorf("node %s does not say what it has", name)
		}
		if err == nil {
			most = *resource.NewMilliQuantity(n.Status.Allocatable.Cpu().MilliValue()*6/10, resource.DecimalSI)
		}
		return err
	})
	if err != nil {
		return err
	}
	wants := corev1.ResourceList{corev1.ResourceCPU: most}
	err = c.deployAs(ctx, "on-"+name, 1, only(name), func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.Containers[0].Resources.Requests = wants
	})
	if err != nil {
		return err
	}
	p := churnPod(name, "good", map[string]string{extra: name})
	p.Spec.PriorityClassName, p.Spec.Containers[0].Resources.Requests = "important", wants
	if _, err := c.kube.CoreV1().Pods(c.ns).Create(ctx, p, metav1.CreateOptions{}); err != nil {
		return err
	}
	if err := wait(ctx, func() error { return c.runs(ctx, name) }); err != nil {
		return err
	}
	c.linger(ctx, 30*time.Second)
	if err := c.remove(ctx, c.core("pods", name)); err != nil {
		return err
	}
	if err := c.complete(ctx, "on-"+name); err != nil {
		return err
	}
	return c.dropNode(ctx, name)
}

// restartPart ends a part of the control plane, which is started anew.
func (c *churn) restartPart(ctx context.Context, round int) error {
	if err := c.Signal([]string{"kube-scheduler", "kube-controller-manager"}[round%2], "TERM"); err != nil {
		return err
	}
	c.linger(ctx, 3*time.Minute)
	return nil
}
