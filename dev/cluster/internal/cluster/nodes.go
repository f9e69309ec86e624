package cluster

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/dev/cluster/internal/sim"
)

// createNodes creates the nodes of a new cluster. A kept cluster keeps the nodes it had.
func createNodes(ctx context.Context, client kubernetes.Interface, c Config) error {
	have, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: sim.LabelNode, Limit: 1})
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	if len(have.Items) > 0 {
		return nil
	}
	for i := range c.Nodes {
		name := fmt.Sprintf("node-%d", i+1)
		node := sim.NewNode(name, fmt.Sprintf("zone-%d", i%c.Zones+1), nil)
		if _, err := client.CoreV1().Nodes().Create(ctx, node, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create node %s: %w", name, err)
		}
	}
	return nil
}

// serving checks that the API server answers, and has finished its own start.
func serving(client kubernetes.Interface) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	}
}

// usable checks that a pod created now would be scheduled and run.
func usable(client kubernetes.Interface) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := serving(client)(ctx); err != nil {
			return err
		}
		if _, err := client.CoreV1().ServiceAccounts("default").Get(ctx, "default", metav1.GetOptions{}); err != nil {
			return err
		}
		nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: sim.LabelNode})
		if err != nil {
			return err
		}
		for _, n := range nodes.Items {
			if err := nodeUsable(&n); err != nil {
				return err
			}
		}
		return nil
	}
}

func nodeUsable(n *corev1.Node) error {
	if sim.Stopped(n) {
		return nil // stopped on purpose before the cluster was; it stays so
	}
	if !sim.Ready(n) && n.Annotations[sim.AnnotationNotReady] == "" {
		return errors.New("node " + n.Name + " is not ready")
	}
	for _, t := range n.Spec.Taints {
		if t.Key == corev1.TaintNodeNotReady && n.Annotations[sim.AnnotationNotReady] == "" {
			return errors.New("node " + n.Name + " still has the not-ready taint")
		}
	}
	return nil
}
