package action

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// A pod is kept from its node by a taint of ours with the effect
// PreferNoSchedule, for as long as it is being replaced. A cordon would keep
// every pod from a node that says itself that it is well, and no number of
// failing pods earns that; an anti-affinity would change the template. The
// scheduler only prefers other nodes then: where none has room, the pod comes
// back to the same.

// mayTaint are the rights to do so.
var mayTaint = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"get", "patch"}},
}

// A mistrust is that a node is tainted for one decision.
type mistrust struct {
	Node heal.Target `json:"node"`
}

// suspectTaint is a key of the decision's own, so that none takes another's away.
func suspectTaint(decision string) corev1.Taint {
	return corev1.Taint{Key: heal.Domain + "/suspect-" + decision, Effect: corev1.TaintEffectPreferNoSchedule}
}

// shun makes the scheduler prefer other nodes than the pod's, if that is what
// the decision is about.
func shun(ctx context.Context, j *Job) error {
	pod := j.Facts.Pod
	if j.Decision.Cause.Kind != heal.CauseNode || pod == nil || pod.Spec.NodeName == "" {
		return nil
	}
	node, err := j.Reader.Node(ctx, pod.Spec.NodeName)
	if err != nil {
		return err
	}
	why := stays(pod, node)
	if why == "" {
		why = guard.LeaveAlone(j.Facts, guard.Object{Kind: "Node", ObjectMeta: node.ObjectMeta})
	}
	if why != "" {
		j.Desk.Note(heal.Step{Name: "shun_node", Status: heal.StepSkipped, Detail: why})
		return nil
	}
	m := mistrust{Node: heal.Target{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: string(node.UID)}}
	left, err := leftover(j, leftTaint, m)
	if err != nil {
		return err
	}
	if err := j.Leftovers.Add(ctx, left); err != nil {
		return fmt.Errorf("write down the taint of %s: %w", m.Node, err)
	}
	taint := suspectTaint(j.Decision.ID)
	err = j.Desk.Do(ctx, Request{
		Step: "shun_node", Target: m.Node,
		Send: func(ctx context.Context, dryRun []string) error {
			return patchNode(ctx, j.Kube, j.Reader, m.Node, dryRun, func(n *corev1.Node, p *patch) {
				switch {
				case slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) }):
					*p = nil
				case len(n.Spec.Taints) == 0:
					p.add("/spec", "taints", []corev1.Taint{taint})
				default:
					p.add("/spec/taints", "-", taint)
				}
			})
		},
		Seen: tainted(j, m.Node, true),
	})
	var refusal *guard.Refusal
	if errors.As(err, &refusal) && refusal.Guard == "shun_node" {
		j.Desk.Note(leftAlone("shun_node", refusal))
		return nil
	}
	return err
}

// stays is why a taint of the node would not move the pod.
func stays(pod *corev1.Pod, node *corev1.Node) string {
	owner := metav1.GetControllerOf(pod)
	switch {
	case node == nil:
		return "its node is gone"
	case owner != nil && owner.Kind == "DaemonSet":
		return "its DaemonSet puts it on the same node again"
	case node.Spec.Unschedulable:
		return "Node/" + node.Name + " is cordoned anyway"
	case guard.ControlPlane(node):
		return "Node/" + node.Name + " is a control-plane node, and those are never changed"
	}
	return ""
}

func tainted(j *Job, node heal.Target, want bool) func(context.Context) (bool, error) {
	taint := suspectTaint(j.Decision.ID)
	return func(ctx context.Context) (bool, error) {
		n, err := j.Reader.Node(ctx, node.Name)
		if err != nil {
			return false, err
		}
		has := n != nil && string(n.UID) == node.UID && slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) })
		return has == want, nil
	}
}

// settleTaint takes the taint away again: also one that the ledger has lost.
func settleTaint(ctx context.Context, j *Job) error {
	if j.Decision.Cause.Kind != heal.CauseNode {
		return nil
	}
	left := Leftover{Kind: leftTaint, Decision: j.Decision.ID}
	m, known, err := mistrusted(ctx, j.Reader, j.Decision.ID)
	if err != nil || !known {
		return errors.Join(err, j.Leftovers.Remove(ctx, left))
	}
	left, err = leftover(j, leftTaint, m)
	if err != nil {
		return err
	}
	err = j.Desk.Do(ctx, Request{
		Step: "trust_node", Target: m.Node, Heal: true,
		Send: func(ctx context.Context, _ []string) error { return takeTaintBack(ctx, j.Kube, j.Reader, left) },
		Seen: tainted(j, m.Node, false),
	})
	if err != nil {
		return fmt.Errorf("take the taint from %s: %w", m.Node, err)
	}
	return j.Leftovers.Remove(ctx, left)
}

// mistrusted finds the node that is tainted for a decision.
func mistrusted(ctx context.Context, r live.Reader, decision string) (mistrust, bool, error) {
	nodes, err := r.Nodes(ctx)
	if err != nil {
		return mistrust{}, false, err
	}
	taint := suspectTaint(decision)
	for i := range nodes {
		n := &nodes[i]
		if slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) }) {
			return mistrust{heal.Target{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: string(n.UID)}}, true, nil
		}
	}
	return mistrust{}, false, nil
}

// takeTaintBack takes the taint of one decision from its node.
func takeTaintBack(ctx context.Context, kube kubernetes.Interface, reader live.Reader, l Leftover) error {
	var m mistrust
	if err := json.Unmarshal(l.What, &m); err != nil {
		return fmt.Errorf("read which node decision %s has tainted: %w", heal.Clean(l.Decision, 32), err)
	}
	taint := suspectTaint(l.Decision)
	var refusal *guard.Refusal
	err := patchNode(ctx, kube, reader, m.Node, nil, func(n *corev1.Node, p *patch) {
		i := slices.IndexFunc(n.Spec.Taints, func(t corev1.Taint) bool { return t.MatchTaint(&taint) })
		if i < 0 {
			*p = nil
			return
		}
		at := strconv.Itoa(i)
		*p = append(*p, operation{"test", "/spec/taints/" + at + "/key", taint.Key})
		p.remove("/spec/taints", at)
	})
	if errors.As(err, &refusal) && refusal.Outcome == heal.Skipped {
		return nil // the node is gone, and its taint with it
	}
	return err
}

// patchNode sends what change makes of the node as it is now, unless that is
// nothing. The list of taints is one field to the API server, so a patch that
// does not test what it has read would take those of others away.
func patchNode(ctx context.Context, kube kubernetes.Interface, r live.Reader, target heal.Target, dryRun []string, change func(*corev1.Node, *patch)) error {
	for range 5 {
		node, err := r.Node(ctx, target.Name)
		if err != nil {
			return err
		}
		if node == nil || string(node.UID) != target.UID {
			return guard.Refuse("shun_node", guard.Moot("TargetGone", "%s is gone", target))
		}
		p := patchOf(target, node.ResourceVersion)
		if change(node, &p); p == nil {
			return nil
		}
		body, err := json.Marshal(p)
		if err != nil {
			return fmt.Errorf("encode the patch of %s: %w", target, err)
		}
		_, err = kube.CoreV1().Nodes().Patch(ctx, target.Name, types.JSONPatchType, body, metav1.PatchOptions{FieldManager: heal.FieldManager, DryRun: dryRun})
		if !apierrors.IsInvalid(err) && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return answer(err, target)
		}
	}
	return fmt.Errorf("patch %s: %w", target, ErrMoved)
}
