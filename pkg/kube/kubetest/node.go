package kubetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// What steers the simulation; documented in dev/cluster/README.md, which is a module of its own.
const (
	LabelNode           = "sim.selfheal.dev/node"
	AnnotationHeartbeat = "sim.selfheal.dev/heartbeat"
	AnnotationPressure  = "sim.selfheal.dev/pressure"
	AnnotationNotReady  = "sim.selfheal.dev/not-ready"
	AnnotationBehaviour = "sim.selfheal.dev/behaviour"
)

// StopNode silences the node's kubelet. The node becomes NotReady by itself after the monitor's grace period, 8 s
// unless set otherwise; its pods stay as they are.
func (c *Cluster) StopNode(ctx context.Context, name string) error {
	return c.annotateNode(ctx, name, AnnotationHeartbeat, "stopped")
}

// StartNode lets a stopped node's kubelet go on.
func (c *Cluster) StartNode(ctx context.Context, name string) error {
	return c.annotateNode(ctx, name, AnnotationHeartbeat, "")
}

// SetNotReady makes the node's living kubelet report Ready=False with this message; empty: Ready again.
func (c *Cluster) SetNotReady(ctx context.Context, name, message string) error {
	return c.annotateNode(ctx, name, AnnotationNotReady, message)
}

// SetPressure makes the node's kubelet report exactly these conditions as True: none, or some of MemoryPressure,
// DiskPressure, PIDPressure, NetworkUnavailable.
func (c *Cluster) SetPressure(ctx context.Context, name string, conditions ...corev1.NodeConditionType) error {
	var on []string
	for _, kind := range conditions {
		on = append(on, string(kind))
	}
	slices.Sort(on)
	return c.annotateNode(ctx, name, AnnotationPressure, strings.Join(on, ","))
}

// AddNode creates a simulated node, which becomes Ready within a second or so.
func (c *Cluster) AddNode(ctx context.Context, name, zone string, labels map[string]string) error {
	k, err := c.client()
	if err != nil {
		return err
	}
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		LabelNode: "true", corev1.LabelTopologyZone: zone,
	}}}
	for key, v := range labels {
		n.Labels[key] = v
	}
	if _, err := k.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create node %s: %w", name, err)
	}
	return nil
}

// RemoveNode deletes the Node object.
func (c *Cluster) RemoveNode(ctx context.Context, name string) error {
	k, err := c.client()
	if err != nil {
		return err
	}
	if err := k.CoreV1().Nodes().Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		return fmt.Errorf("delete node %s: %w", name, err)
	}
	return nil
}

// SetBehaviour changes how one pod fares from now on, whatever its image; empty: as its image says.
func (c *Cluster) SetBehaviour(ctx context.Context, namespace, pod, behaviour string) error {
	k, err := c.client()
	if err != nil {
		return err
	}
	patch, err := annotationPatch(AnnotationBehaviour, behaviour)
	if err != nil {
		return err
	}
	if _, err := k.CoreV1().Pods(namespace).Patch(ctx, pod, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("annotate pod %s/%s: %w", namespace, pod, err)
	}
	return nil
}

func (c *Cluster) annotateNode(ctx context.Context, name, key, value string) error {
	k, err := c.client()
	if err != nil {
		return err
	}
	patch, err := annotationPatch(key, value)
	if err != nil {
		return err
	}
	if _, err := k.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		return fmt.Errorf("annotate node %s: %w", name, err)
	}
	return nil
}

// annotationPatch sets one annotation; the empty value removes it.
func annotationPatch(key, value string) ([]byte, error) {
	var v *string
	if value != "" {
		v = &value
	}
	return json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{key: v}}})
}
