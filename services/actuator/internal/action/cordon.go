package action

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// mayCordon are the rights to cordon. There is no right to create nodes, so
// that not even an apply can make one.
var mayCordon = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"patch"}},
}

// cordon makes the node unschedulable, by server-side apply: the API server
// then knows that the cordon is ours, and keeps it apart from anybody else's.
// The UID in the applied object makes the request fail where it would create
// a node, or change another one of that name.
func cordon(ctx context.Context, j *Job) error {
	target := j.Decision.Target
	if err := j.Cordons.Add(ctx, target, j.Decision.ID); err != nil {
		return fmt.Errorf("write down the cordon of %s: %w", target, err)
	}
	return j.Desk.Do(ctx, Request{
		Step: "cordon", Target: target,
		Send: func(ctx context.Context, dryRun []string) error {
			node := corev1ac.Node(target.Name).
				WithUID(types.UID(target.UID)).
				WithAnnotations(map[string]string{
					heal.AnnotationOwnedBy:    heal.FieldManager,
					heal.AnnotationDecisionID: j.Decision.ID,
				}).
				WithSpec(corev1ac.NodeSpec().WithUnschedulable(true))
			_, err := j.Kube.CoreV1().Nodes().Apply(ctx, node, metav1.ApplyOptions{FieldManager: heal.FieldManager, DryRun: dryRun})
			return nodeAnswer(ctx, err, j, target)
		},
		Seen: func(ctx context.Context) (bool, error) {
			node, err := j.Reader.Node(ctx, target.Name)
			if err != nil {
				return false, err
			}
			return node != nil && guard.StateOf(node).Ours && node.Annotations[heal.AnnotationDecisionID] == j.Decision.ID, nil
		},
	})
}

// nodeAnswer tells a node that is not the one any more from a change that the
// API server does not take.
func nodeAnswer(ctx context.Context, err error, j *Job, target heal.Target) error {
	if !apierrors.IsConflict(err) && !apierrors.IsInvalid(err) && !apierrors.IsNotFound(err) {
		return answer(err, target)
	}
	node, readErr := j.Reader.Node(ctx, target.Name)
	switch {
	case readErr != nil:
		return readErr
	case node == nil:
		return guard.Refuse("cordon", guard.Moot("TargetGone", "%s is gone", target))
	case string(node.UID) != target.UID:
		return guard.Refuse("cordon", guard.Moot("TargetReplaced", "%s is another machine by now", target))
	case apierrors.IsConflict(err):
		return guard.Refuse("cordon", guard.Veto("FieldConflict", "somebody else owns what we would change of %s: %s", target, heal.Clean(err.Error(), heal.MaxText)))
	}
	return answer(err, target)
}

// uncordon takes our cordon back at the desk of a job.
func uncordon(ctx context.Context, j *Job) error {
	target := j.Decision.Target
	err := j.Desk.Do(ctx, Request{
		Step: "uncordon", Target: target, Heal: true,
		Send: func(ctx context.Context, dryRun []string) error {
			node, err := j.Reader.Node(ctx, target.Name)
			if err != nil {
				return err
			}
			return Release(ctx, j.Kube, node, target.UID, dryRun)
		},
		Seen: func(ctx context.Context) (bool, error) {
			node, err := j.Reader.Node(ctx, target.Name)
			return err == nil && (node == nil || !owns(node)), err
		},
	})
	if err != nil {
		return err
	}
	return j.Cordons.Remove(ctx, target.Name)
}

// Release takes our cordon and annotations from a node, if it is still the one
// with uid, by applying nothing: what somebody else owns as well stays, so a
// person's cordon does. If somebody had taken the cordon already, that is
// written down, so that we keep our hands off.
func Release(ctx context.Context, kube kubernetes.Interface, node *corev1.Node, uid string, dryRun []string) error {
	if node == nil || string(node.UID) != uid || !owns(node) {
		return nil
	}
	config := corev1ac.Node(node.Name).WithUID(node.UID)
	if !node.Spec.Unschedulable {
		config.WithAnnotations(map[string]string{guard.AnnotationUncordonSeen: time.Now().UTC().Format(time.RFC3339)})
	}
	_, err := kube.CoreV1().Nodes().Apply(ctx, config, metav1.ApplyOptions{FieldManager: heal.FieldManager, DryRun: dryRun})
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
		if now, readErr := kube.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{}); apierrors.IsNotFound(readErr) || readErr == nil && string(now.UID) != uid {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("uncordon Node/%s: %w", node.Name, err)
	}
	return nil
}

// owns reports whether the node still carries our cordon or our marks.
func owns(n *corev1.Node) bool {
	_, marked := n.Annotations[heal.AnnotationDecisionID]
	return marked || slices.Contains(guard.CordonManagers(n), heal.FieldManager)
}
