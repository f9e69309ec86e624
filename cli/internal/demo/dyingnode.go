package demo

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
)

// dyingNode silences a node's kubelet, and plays the cloud provider that
// brings another machine once this one is out of service.
var dyingNode = scenario{
	id:   "dying-node",
	name: "a node dies",
	story: "The machine below one node loses its power. Its heartbeats stop, Kubernetes calls it NotReady, and " +
		"what ran there would be missing for five minutes. The demo plays the cloud provider: once the node is " +
		"cordoned and drained, it takes the dead machine away and brings a new one.",
	wants:  healed,
	within: 150 * time.Second,
	about:  func(f heal.Failure) bool { return f.Target.Kind == "Node" },
	play: func(ctx context.Context, s *stage, w *watch) error {
		name, err := busiestNode(ctx, s.kube)
		if err != nil {
			return err
		}
		patch, err := annotation(simHeartbeat, "stopped")
		if err != nil {
			return err
		}
		node, err := s.kube.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil {
			return fmt.Errorf("break node %s: %w", name, err)
		}
		s.say(ctx, "BREAKS", "node %s: the power is off, no heartbeat comes any more", name)
		if err := waitOutOfService(ctx, s, name); err != nil {
			return err
		}
		if err := replaceMachine(ctx, s, node); err != nil {
			return err
		}
		err = w.until(ctx, "the node's recovery to be proven", func(o observation) bool { return over(o) && o.provenAndTold() })
		if err != nil {
			return err
		}
		return waitWhole(ctx, s.kube, "checkout", "catalog", "cart")
	},
}

// busiestNode is the node that runs most of the shop.
func busiestNode(ctx context.Context, k kubernetes.Interface) (string, error) {
	pods, err := k.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", fmt.Errorf("list pods: %w", err)
	}
	busiest, running := "", map[string]int{}
	for _, p := range pods.Items {
		if p.DeletionTimestamp != nil || p.Spec.NodeName == "" {
			continue
		}
		if running[p.Spec.NodeName]++; running[p.Spec.NodeName] > running[busiest] {
			busiest = p.Spec.NodeName
		}
	}
	if busiest == "" {
		return "", errors.New("the shop runs on no node")
	}
	return busiest, nil
}

// waitOutOfService waits until nothing is placed on the node any more and
// what ran there was told to go.
func waitOutOfService(ctx context.Context, s *stage, name string) error {
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		node, err := s.kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil || !node.Spec.Unschedulable {
			return false, err
		}
		pods, err := s.kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{FieldSelector: "spec.nodeName=" + name})
		if err != nil {
			return false, err
		}
		for _, p := range pods.Items {
			if p.DeletionTimestamp == nil {
				return false, nil
			}
		}
		return true, nil
	})
	if err != nil {
		return fmt.Errorf("node %s is not cordoned and drained: %w", name, err)
	}
	return nil
}

// replaceMachine does what a cloud provider does with a machine that is dead
// and out of service.
func replaceMachine(ctx context.Context, s *stage, dead *corev1.Node) error {
	if err := s.kube.CoreV1().Nodes().Delete(ctx, dead.Name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(dead.UID))}); err != nil {
		return fmt.Errorf("remove node %s: %w", dead.Name, err)
	}
	fresh := &corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Name: dead.Name + "-new",
		Labels: map[string]string{
			simNode:                  "true",
			corev1.LabelTopologyZone: dead.Labels[corev1.LabelTopologyZone],
		},
	}}
	if _, err := s.kube.CoreV1().Nodes().Create(ctx, fresh, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("add node %s: %w", fresh.Name, err)
	}
	s.say(ctx, "CLOUD", "takes the machine of %s away and brings another: node %s", dead.Name, fresh.Name)
	return nil
}
