package action

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/pause"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// emergencyReplaceNode is for a machine that is proven to be dead and whose
// provider makes another: Kubernetes is told that the node is out of service,
// so that its pods and volumes are given free without their kubelet, and the
// machine is replaced. Without either it does what is safe on a machine that
// may still live.
// https://kubernetes.io/docs/concepts/cluster-administration/node-shutdown/#non-graceful-node-shutdown
var emergencyReplaceNode = Action{
	Needs: drainAndReplaceNode.Needs,
	Node:  true,
	Do: func(ctx context.Context, j *Job) error {
		m, err := machineOf(ctx, j)
		if err != nil {
			return err
		}
		var done drained
		j.Desk.Recall(&done)
		dead := death(j.Facts.Node, m)
		if (dead == "" || m == nil) && !done.Emergency {
			why := "no proof that the machine is dead"
			if dead != "" {
				why = "no provider that would replace the machine"
			}
			j.Desk.Note(heal.Step{Name: string(heal.EmergencyReplace), Status: heal.StepSkipped, Detail: why + ": cordoned and drained instead"})
			return drainAndReplace(ctx, j)
		}
		if !done.Emergency {
			done.Emergency = true
			j.Desk.Remember(done)
			j.Desk.Note(heal.Step{Name: string(heal.EmergencyReplace), Status: heal.StepOK, Detail: dead})
		}
		if err := cordon(ctx, j); err != nil {
			return err
		}
		if err := putTaint(ctx, j); err != nil {
			return err
		}
		if err := untilFree(ctx, j); err != nil {
			return err
		}
		return replace(ctx, j, m)
	},
	Sights: drainAndReplaceNode.Sights,
	Settle: drainAndReplaceNode.Settle,
	Undo:   drainAndReplaceNode.Undo,
}

// ourTaint says that the node is out of service, and by its value that we do.
var ourTaint = corev1.Taint{Key: corev1.TaintNodeOutOfService, Value: heal.FieldManager, Effect: corev1.TaintEffectNoExecute}

func outOfService(n *corev1.Node) bool {
	return n != nil && slices.ContainsFunc(n.Spec.Taints, func(t corev1.Taint) bool {
		return t.Key == ourTaint.Key && t.Value == ourTaint.Value && t.Effect == ourTaint.Effect
	})
}

// changeTaint gives the node of that UID our taint, or takes it. Taints are one
// list, and others write it too: the request fails if it has changed since.
func changeTaint(ctx context.Context, j *Job, put bool, dryRun []string) error {
	target := j.Decision.Target
	for range 5 {
		node, err := j.Reader.Node(ctx, target.Name)
		if err != nil {
			return err
		}
		if node == nil || string(node.UID) != target.UID || outOfService(node) == put {
			return nil
		}
		taints := slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(t corev1.Taint) bool { return t.Key == ourTaint.Key && t.Value == ourTaint.Value })
		if put {
			taints = append(taints, ourTaint)
		}
		p := patchOf(target, node.ResourceVersion)
		p.add("/spec", "taints", taints)
		body, err := json.Marshal(p)
		if err != nil {
			return err
		}
		_, err = j.Kube.CoreV1().Nodes().Patch(ctx, target.Name, types.JSONPatchType, body, metav1.PatchOptions{FieldManager: heal.FieldManager, DryRun: dryRun})
		if !apierrors.IsInvalid(err) && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
			return answer(err, target)
		}
	}
	return ErrMoved
}

// leftOutOfService is the taint, as a leftover.
const leftOutOfService = "out_of_service"

func takeOutOfServiceBack(ctx context.Context, kube kubernetes.Interface, r live.Reader, l Leftover) error {
	var node heal.Target
	if err := json.Unmarshal(l.What, &node); err != nil {
		return fmt.Errorf("decode the taint of decision %s: %w", l.Decision, err)
	}
	return changeTaint(ctx, &Job{Decision: heal.Decision{Target: node}, Kube: kube, Reader: r}, false, nil)
}

func putTaint(ctx context.Context, j *Job) error {
	left, err := leftover(j, leftOutOfService, j.Decision.Target)
	if err != nil {
		return err
	}
	if err := j.Leftovers.Add(ctx, left); err != nil {
		return fmt.Errorf("write down the taint of %s: %w", j.Decision.Target, err)
	}
	return j.Desk.Do(ctx, Request{
		Step: "out_of_service", Target: j.Decision.Target,
		Send: func(ctx context.Context, dryRun []string) error { return changeTaint(ctx, j, true, dryRun) },
		Seen: func(ctx context.Context) (bool, error) {
			node, err := j.Reader.Node(ctx, j.Decision.Target.Name)
			return outOfService(node), err
		},
	})
}

// takeTaint takes the taint back, if there is one of ours.
func takeTaint(ctx context.Context, j *Job) error {
	node, err := j.Reader.Node(ctx, j.Decision.Target.Name)
	if err != nil {
		return err
	}
	left := Leftover{Kind: leftOutOfService, Decision: j.Decision.ID}
	if !outOfService(node) || string(node.UID) != j.Decision.Target.UID {
		return j.Leftovers.Remove(ctx, left)
	}
	err = j.Desk.Do(ctx, Request{
		Step: "in_service", Target: j.Decision.Target, Heal: true,
		Send: func(ctx context.Context, dryRun []string) error { return changeTaint(ctx, j, false, dryRun) },
		Seen: func(ctx context.Context) (bool, error) {
			node, err := j.Reader.Node(ctx, j.Decision.Target.Name)
			return !outOfService(node), err
		},
	})
	if err != nil {
		return err
	}
	return j.Leftovers.Remove(ctx, left)
}

// untilFree waits until Kubernetes has given the node's pods free, but not for
// ever: then the provider's own clean-up does it.
func untilFree(ctx context.Context, j *Job) error {
	const patience = 90 * time.Second // Kubernetes looks every 20 s
	var done drained
	j.Desk.Recall(&done)
	if done.Machine != nil || j.DryRun {
		return nil
	}
	begin := time.Now()
	for {
		pods, err := j.Reader.PodsOn(ctx, j.Decision.Target.Name)
		if err != nil {
			return err
		}
		pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !guard.Movable(&p) })
		over := time.Since(begin) > patience || !time.Now().Add(5*time.Second).Before(j.Desk.LastWrite())
		if len(pods) == 0 || over {
			status := heal.StepOK
			if len(pods) > 0 {
				status = heal.StepFailed
			}
			j.Desk.Note(heal.Step{Name: "free", Status: status, Milliseconds: float64(time.Since(begin).Milliseconds()),
				Detail: fmt.Sprintf("%d pods are still bound to the node", len(pods))})
			return nil
		}
		if err := j.Desk.Recheck(ctx, recheckEvery); err != nil {
			return unlessMoot(err)
		}
		if !pause.For(ctx, drainRest) {
			return context.Cause(ctx)
		}
	}
}
