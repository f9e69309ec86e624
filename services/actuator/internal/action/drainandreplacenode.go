package action

import (
	"context"
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// drainAndReplaceNode cordons the node, drains it if what runs there finds
// room elsewhere, has its machine replaced by its provider, and waits for a
// Ready node in its place. It never deletes a node: that would force-delete its
// pods while the machine may still run them.
var drainAndReplaceNode = Action{
	Needs:  slices.Concat(mayCordon, mayEvict, mayReplace()),
	Node:   true,
	Do:     drainAndReplace,
	Sights: machineSights,
	Settle: settleNode,
	Undo:   undoCordon,
}

func drainAndReplace(ctx context.Context, j *Job) error {
	m, err := machineOf(ctx, j)
	if err != nil {
		return err
	}
	if err := cordon(ctx, j); err != nil {
		return err
	}
	if err := drain(ctx, j); err != nil {
		return err
	}
	return replace(ctx, j, m)
}

// machineSights looks at the node, at the one that comes in its place, and at
// the workloads that lost pods there.
func machineSights(j *Job) Sights {
	target := j.Decision.Target
	return Sights{
		Look: func(ctx context.Context) (verify.Sight, error) {
			node, err := j.Reader.Node(ctx, target.Name)
			if err != nil {
				return verify.Sight{}, err
			}
			var done drained
			j.Desk.Recall(&done)
			m := verify.Machine{Target: target, Node: node, Now: time.Now(), Drained: done.Why == "", Left: done.Left, Why: done.Why}
			if done.Machine != nil {
				m.Replaced, m.Awaits, m.Leaving = true, done.Machine.Awaits, done.Machine.Object.UID != ""
				nodes, err := j.Reader.Nodes(ctx)
				if err != nil {
					return verify.Sight{}, err
				}
				m.Successor = done.Newcomers.ready(nodes)
				if done.Machine.Provider == byWebhookName {
					m.Refused = ordered(ctx, j)
				}
			}
			if m.Workloads, err = done.workloads(ctx, j.Reader); err != nil {
				return verify.Sight{}, err
			}
			return m.Judge(), nil
		},
		Follow: func(ctx context.Context, changed chan<- struct{}) {
			j.Reader.FollowNode(ctx, target.Name, changed)
		},
	}
}

// settleNode takes the cordon back, unless the node is still down: then it
// keeps pods away from it until it is Ready again, or a person says otherwise.
func settleNode(ctx context.Context, j *Job, c verify.Conclusion) (*heal.Undo, error) {
	if err := takeTaint(ctx, j); err != nil {
		return nil, err
	}
	target := j.Decision.Target
	node, err := j.Reader.Node(ctx, target.Name)
	if err != nil {
		return nil, err
	}
	switch {
	case node == nil, string(node.UID) != target.UID:
		return nil, j.Cordons.Remove(ctx, target.Name)
	case c.Outcome == heal.Succeeded:
		return nil, uncordon(ctx, j)
	case node.Annotations[heal.AnnotationDecisionID] != j.Decision.ID:
		return nil, nil // refused before the cordon; an earlier decision's is not ours to take back
	case c.Outcome == heal.Failed && guard.StateOf(node).Ours, c.Outcome == heal.TimedOut && guard.StateOf(node).Ours:
		return &heal.Undo{
			Summary: target.String() + " stays cordoned until it has been Ready for a while",
			Command: "kubectl uncordon " + target.Name,
		}, nil
	}
	return nil, uncordon(ctx, j)
}
