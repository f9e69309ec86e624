package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/pause"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// relieveNode takes pods from a node that runs short of memory or process ids:
// those first that have asked for nothing and use most, as the kubelet would,
// but through the eviction API, which its own evictions pass by. The node is
// cordoned meanwhile, or they come back.
var relieveNode = Action{
	Needs:  slices.Concat(mayCordon, mayEvict, live.MayReadUsage),
	Node:   true,
	Do:     relieve,
	Sights: relieved,
	Settle: settleRelief,
}

const (
	mostRelieved = 5                // pods of one node for one decision: what that does not relieve, moving pods does not
	firstRest    = 10 * time.Second // after the first eviction; doubled each time, as a kubelet says late that it is well
)

// A weight is how much there is to be gained by evicting a pod.
type weight struct {
	pod        *corev1.Pod
	bestEffort bool
	excess     int64 // bytes that it uses beyond its requests; 0 if that is not known
}

func relieve(ctx context.Context, j *Job) error {
	target := j.Decision.Target
	if j.Decision.Failure.Reason == string(corev1.NodeDiskPressure) {
		return guard.Refuse("relieve", guard.Veto("PressureIsTheKubelets",
			"which pods fill the disk of %s only its kubelet knows, and it evicts these itself", target))
	}
	spaces, err := spacesElsewhere(ctx, j.Reader, target.Name)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(spaces, func(s space) bool { return s.pods > 0 && !guard.UnderPressure(s.node, j.Decision.Failure.Reason) }) {
		return guard.Refuse("relieve", guard.Veto(NoRoom, "no other Ready node has room for a pod of %s and is not under %s itself", target, j.Decision.Failure.Reason))
	}
	if err := cordon(ctx, j); err != nil {
		return err
	}
	d := drainer{job: j, held: map[string]time.Time{}, blocked: map[string]string{}, left: map[string]string{}}
	j.Desk.Recall(&d.done)
	over, err := d.relieve(ctx)
	var refusal *guard.Refusal
	if errors.As(err, &refusal) {
		j.Desk.Note(heal.Step{Name: "relieve", Status: heal.StepFailed, Detail: fmt.Sprintf("%d pods evicted, then stopped: %s", d.evicted, refusal.Reason)})
	}
	if err != nil {
		return err
	}
	j.Desk.Remember(d.done)
	step := d.step(over)
	step.Name = "relieve"
	j.Desk.Note(step)
	return nil
}

// relieve evicts pods one by one until the node is well, or none is left that
// may go. It reports whether the node is well.
func (d *drainer) relieve(ctx context.Context) (over bool, err error) {
	rest := firstRest
	for range mostRelieved {
		weights, err := heaviest(ctx, d.job)
		if err != nil {
			return false, err
		}
		before := d.evicted
		for _, w := range weights {
			if over, err := d.isOver(ctx); over || err != nil {
				return over, err
			}
			if now := time.Now(); now.Before(d.held[w.pod.Namespace]) || now.Before(d.held[string(w.pod.UID)]) {
				continue
			}
			t := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: w.pod.Namespace, Name: w.pod.Name, UID: string(w.pod.UID)}
			if err := d.drain(ctx, t); err != nil {
				return false, err
			}
			if d.evicted > before {
				break
			}
		}
		if d.evicted == before || d.job.DryRun {
			return false, nil
		}
		until := time.Now().Add(rest)
		for rest *= 2; time.Now().Before(until); {
			if !time.Now().Before(d.job.Desk.LastWrite()) {
				return false, nil
			}
			if over, err := d.isOver(ctx); over || err != nil {
				return over, err
			}
			if !pause.For(ctx, recheckEvery) {
				return false, context.Cause(ctx)
			}
		}
	}
	return false, nil
}

// heaviest are the pods of the node that may go, in the order in which they
// should.
func heaviest(ctx context.Context, j *Job) ([]weight, error) {
	pods, err := j.Reader.PodsOn(ctx, j.Decision.Target.Name)
	if err != nil {
		return nil, err
	}
	var weights []weight
	for i := range pods {
		p := &pods[i]
		if p.DeletionTimestamp != nil || p.Status.QOSClass == corev1.PodQOSGuaranteed || !guard.Movable(p) || critical(p) {
			continue
		}
		usage, err := j.Reader.Usage(ctx, p.Namespace, p.Name)
		if err != nil {
			return nil, err
		}
		used := int64(0)
		for _, bytes := range usage {
			used += bytes
		}
		w := weight{pod: p, bestEffort: p.Status.QOSClass == corev1.PodQOSBestEffort, excess: max(0, used-requests(p).mem)}
		if w.bestEffort || w.excess > 0 {
			weights = append(weights, w)
		}
	}
	slices.SortFunc(weights, func(a, b weight) int {
		if a.bestEffort != b.bestEffort {
			if a.bestEffort {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.excess, a.excess), b.pod.CreationTimestamp.Compare(a.pod.CreationTimestamp.Time), cmp.Compare(a.pod.Name, b.pod.Name))
	})
	return weights, nil
}

// critical reports whether the cluster itself depends on the pod
// (https://kubernetes.io/docs/tasks/administer-cluster/guaranteed-scheduling-critical-addon-pods).
func critical(p *corev1.Pod) bool {
	const system = 2_000_000_000
	return p.Spec.Priority != nil && *p.Spec.Priority >= system
}

// relieved looks at the node, and at the workloads that lost pods there.
func relieved(j *Job) Sights {
	target := j.Decision.Target
	return Sights{
		Look: func(ctx context.Context) (verify.Sight, error) {
			node, err := j.Reader.Node(ctx, target.Name)
			if err != nil {
				return verify.Sight{}, err
			}
			var done drained
			j.Desk.Recall(&done)
			p := verify.Pressure{Target: target, Node: node, Reason: j.Decision.Failure.Reason}
			if p.Workloads, err = done.workloads(ctx, j.Reader); err != nil {
				return verify.Sight{}, err
			}
			return p.Judge(), nil
		},
		Follow: func(ctx context.Context, changed chan<- struct{}) { j.Reader.FollowNode(ctx, target.Name, changed) },
	}
}

// settleRelief takes the cordon back, however it ended: while the pressure
// lasts, Kubernetes itself keeps pods away that have asked for nothing.
func settleRelief(ctx context.Context, j *Job, _ verify.Conclusion) (*heal.Undo, error) {
	target := j.Decision.Target
	node, err := j.Reader.Node(ctx, target.Name)
	if err != nil {
		return nil, err
	}
	if node == nil || string(node.UID) != target.UID {
		return nil, j.Cordons.Remove(ctx, target.Name)
	}
	if node.Annotations[heal.AnnotationDecisionID] != j.Decision.ID {
		return nil, nil // refused before the cordon; an earlier decision's is not ours to take back
	}
	return nil, uncordon(ctx, j)
}
