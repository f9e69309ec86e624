package action

import (
	"context"
	"slices"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// drainAndReplaceNode cordons the node, drains it if what runs there finds
// room elsewhere, and waits for the node to be well again or taken away. It
// never deletes a node: that would force-delete its pods while the machine may
// still run them.
var drainAndReplaceNode = Action{
	Needs:  slices.Concat(mayCordon, mayEvict),
	Node:   true,
	Do:     drainAndReplace,
	Sights: machine,
	Settle: settleNode,
}

func drainAndReplace(ctx context.Context, j *Job) error {
	if err := cordon(ctx, j); err != nil {
		return err
	}
	if err := drain(ctx, j); err != nil {
		return err
	}
	j.Desk.Note(heal.Step{Name: "replace", Status: heal.StepSkipped,
		Detail: "no provider configured: whoever runs the machines has to repair or replace this one"})
	return nil
}

// machine looks at the node, and at the workloads that lost pods there.
func machine(j *Job) Sights {
	target := j.Decision.Target
	return Sights{
		Look: func(ctx context.Context) (verify.Sight, error) {
			node, err := j.Reader.Node(ctx, target.Name)
			if err != nil {
				return verify.Sight{}, err
			}
			var done drained
			j.Desk.Recall(&done)
			m := verify.Machine{Target: target, Node: node, Drained: done.Why == "", Left: done.Left, Why: done.Why}
			for _, t := range done.Workloads {
				w := verify.Workload{Target: t}
				owner, found, err := j.Reader.Owner(ctx, t)
				if err != nil {
					return verify.Sight{}, err
				}
				w.Gone, w.Wanted, w.Ready = !found || owner.DeletionTimestamp != nil, owner.Wanted, owner.Ready
				m.Workloads = append(m.Workloads, w)
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
