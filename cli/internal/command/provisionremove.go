package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A removal is what `selfheal provision remove` is told.
type removal struct{ installation }

func provisionRemoveCommand() *cobra.Command {
	var r removal
	c := &cobra.Command{
		Use:   "remove",
		Short: "Stop the actuator and take its marks from the nodes, before an uninstall",
		Long: `remove makes an installation safe to be taken away: it scales the actuator to nothing,
waits until its pods have ended, and takes the cordons and taints from nodes that are
the actuator's. A cordon that a person set as well stays. The chart runs it before
'helm uninstall'. What a roll-back, a resize or a failover changed stays as it is: it
is what made the workload well.`,
		Example: `  selfheal provision remove --namespace self-healing
  helm uninstall self-healing --namespace self-healing`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.namespace == "" || r.name == "" || r.timeout <= 0 {
				return usageError{errors.New("--namespace, --name, --timeout: want all three")}
			}
			client, err := r.client("selfheal-remove")
			if err != nil {
				return err
			}
			ctx, cancel := r.within(cmd.Context())
			defer cancel()
			return r.run(ctx, client, cmd.OutOrStdout())
		},
	}
	r.flags(c, "Deployments", 2*time.Minute)
	return c
}

func (r *removal) run(ctx context.Context, k kubernetes.Interface, out io.Writer) error {
	deployment := r.name + "-actuator"
	_, err := k.AppsV1().Deployments(r.namespace).Patch(ctx, deployment, types.MergePatchType, []byte(`{"spec":{"replicas":0}}`), metav1.PatchOptions{}, "scale")
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("stop deployment %s/%s: %w", r.namespace, deployment, err)
	}
	if err := r.untilStopped(ctx, k, deployment); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "deployment %s/%s has stopped\n", r.namespace, deployment); err != nil {
		return err
	}
	nodes, err := k.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if apierrors.IsForbidden(err) { // it looked after namespaces alone, and touched no node
		return nil
	}
	if err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	var errs []error
	for i := range nodes.Items {
		n := &nodes.Items[i]
		if !touched(n) {
			continue
		}
		if err := releaseNode(ctx, k, n); err != nil {
			errs = append(errs, err)
			continue
		}
		if _, err := fmt.Fprintf(out, "node %s: ours is taken back\n", n.Name); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}

// untilStopped waits until no pod of the Deployment is left.
func (r *removal) untilStopped(ctx context.Context, k kubernetes.Interface, deployment string) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		pods, err := k.CoreV1().Pods(r.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=actuator"})
		if err != nil {
			return fmt.Errorf("list pods of %s/%s: %w", r.namespace, deployment, err)
		}
		left := slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return !strings.HasPrefix(p.Name, deployment+"-") })
		if len(left) == 0 {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w: %d pods of %s/%s have not ended; nothing was taken back from nodes", context.Cause(ctx), len(left), r.namespace, deployment)
		}
	}
}

// touched reports whether the node carries anything of ours.
func touched(n *corev1.Node) bool {
	_, marked := n.Annotations[heal.AnnotationDecisionID]
	return marked || slices.ContainsFunc(n.Spec.Taints, ourTaint) || slices.ContainsFunc(n.ManagedFields, func(m metav1.ManagedFieldsEntry) bool {
		return m.Manager == heal.FieldManager && m.Operation == metav1.ManagedFieldsOperationApply
	})
}

// ourTaint is one of the product's domain, or that of a node out of service if
// its value says that it is ours.
func ourTaint(t corev1.Taint) bool {
	return strings.HasPrefix(t.Key, heal.Domain+"/") || t.Key == corev1.TaintNodeOutOfService && t.Value == heal.FieldManager
}

// releaseNode takes our taints away, and then our cordon by applying nothing as
// who made it: what somebody else owns as well stays.
func releaseNode(ctx context.Context, k kubernetes.Interface, n *corev1.Node) error {
	for range 5 {
		taints := slices.DeleteFunc(slices.Clone(n.Spec.Taints), ourTaint)
		if len(taints) == len(n.Spec.Taints) {
			break
		}
		body, err := json.Marshal([]map[string]any{
			{"op": "test", "path": "/metadata/uid", "value": n.UID},
			{"op": "test", "path": "/metadata/resourceVersion", "value": n.ResourceVersion},
			{"op": "add", "path": "/spec/taints", "value": append([]corev1.Taint{}, taints...)},
		})
		if err != nil {
			return err
		}
		_, err = k.CoreV1().Nodes().Patch(ctx, n.Name, types.JSONPatchType, body, metav1.PatchOptions{})
		if err != nil && !apierrors.IsInvalid(err) && !apierrors.IsConflict(err) {
			return fmt.Errorf("take our taints from node %s: %w", n.Name, err)
		}
		again, err := k.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && again.UID != n.UID {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read node %s: %w", n.Name, err)
		}
		n = again
	}
	_, err := k.CoreV1().Nodes().Apply(ctx, corev1ac.Node(n.Name).WithUID(n.UID), metav1.ApplyOptions{FieldManager: heal.FieldManager})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("uncordon node %s: %w", n.Name, err)
	}
	return nil
}
