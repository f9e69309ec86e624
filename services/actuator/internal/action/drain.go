package action

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/pause"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// drained is what a drain must remember.
type drained struct {
	Workloads []heal.Target `json:"workloads,omitempty"` // that lost a pod, or are about to
	Left      int           `json:"left,omitempty"`      // how many pods were not evicted, though they should be
	Why       string        `json:"why,omitempty"`       // the reason why nothing was evicted

	Emergency bool      `json:"emergency,omitempty"` // the machine was proven dead, and is not drained
	Machine   *machine  `json:"machine,omitempty"`   // that was asked for to be replaced or restarted
	Newcomers newcomers `json:"newcomers,omitzero"`  // since then
}

// workloads are how those stand that lost a pod.
func (d drained) workloads(ctx context.Context, r live.Reader) ([]verify.Workload, error) {
	var all []verify.Workload
	for _, t := range d.Workloads {
		owner, found, err := r.Owner(ctx, t)
		if err != nil {
			return nil, err
		}
		all = append(all, verify.Workload{Target: t, Gone: !found || owner.DeletionTimestamp != nil, Wanted: owner.Wanted, Ready: owner.Ready})
	}
	return all, nil
}

// NoRoom is the reason why a node is not drained.
const NoRoom = "NoRoom"

const (
	recheckEvery = time.Second     // how old the verdict on the node may be while its pods are evicted
	drainRest    = 2 * time.Second // before pods that may not go are asked for again
)

// drain evicts the pods of the node one by one, until only such are left as it
// may not evict, or the time is over. On a dead node they stay Terminating:
// that they are replaced elsewhere is what counts.
func drain(ctx context.Context, j *Job) error {
	d := drainer{job: j, held: map[string]time.Time{}}
	began := j.Desk.Recall(&d.done)
	if d.done.Why != "" {
		return nil
	}
	if !began {
		detail, err := roomFor(ctx, j)
		if err != nil {
			return err
		}
		if detail != "" {
			d.done.Why = NoRoom
			j.Desk.Remember(d.done)
			j.Desk.Note(heal.Step{Name: "drain", Status: heal.StepSkipped, Detail: NoRoom + ": " + detail})
			return nil
		}
	}
	for {
		over, err := d.round(ctx)
		var refusal *guard.Refusal
		if errors.As(err, &refusal) {
			j.Desk.Note(heal.Step{Name: "drain", Status: heal.StepFailed, Detail: fmt.Sprintf("%d pods evicted, then stopped: %s", d.evicted, refusal.Reason)})
		}
		if err != nil {
			return err
		}
		if over || len(d.blocked) == 0 || j.DryRun || !time.Now().Before(j.Desk.LastWrite()) {
			d.done.Left = len(d.blocked) + len(d.left)
			j.Desk.Remember(d.done)
			j.Desk.Note(d.step(over))
			return nil
		}
		if !pause.For(ctx, drainRest) {
			return context.Cause(ctx)
		}
	}
}

// A drainer goes over the pods of a node until they are gone.
type drainer struct {
	job     *Job
	done    drained
	evicted int
	held    map[string]time.Time // pods and namespaces not to be asked for before
	moved   time.Time            // when the last pod with a volume was evicted

	// Of the last round, by pod, why it is still there:
	blocked map[string]string // but may go later
	left    map[string]string // and stays
}

// round goes over the pods once. It reports whether there is no reason to
// drain any more: the node is well again, or gone.
func (d *drainer) round(ctx context.Context) (over bool, err error) {
	before := d.blocked
	d.blocked, d.left = map[string]string{}, map[string]string{}
	pods, err := d.job.Reader.PodsOn(ctx, d.job.Decision.Target.Name)
	if err != nil {
		return false, err
	}
	for i := range pods {
		p := &pods[i]
		target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)}
		switch now := time.Now(); {
		case p.DeletionTimestamp != nil:
			continue
		case hasVolume(p) && d.moving(now, pods):
			d.blocked[target.String()] = target.String() + " waits until the volumes of another pod are free"
			continue
		case now.Before(d.held[p.Namespace]), now.Before(d.held[target.UID]):
			if why, ok := before[target.String()]; ok {
				d.blocked[target.String()] = why
			} else {
				d.blocked[target.String()] = target.String() + " waits for the budget"
			}
			continue
		}
		if over, err := d.isOver(ctx); over || err != nil {
			return over, err
		}
		if err := d.drain(ctx, target); err != nil {
			return false, err
		}
	}
	return false, nil
}

// hasVolume reports whether a volume moves with the pod, which is attached to
// one node after the other.
func hasVolume(p *corev1.Pod) bool {
	return p != nil && slices.ContainsFunc(p.Spec.Volumes, func(v corev1.Volume) bool {
		return v.PersistentVolumeClaim != nil || v.Ephemeral != nil
	})
}

// moving reports whether a pod with a volume is on its way: volumes go one
// after another, as many at once overwhelm who attaches them. A node that is
// dead never lets its pods go, and is not waited for longer than the grace that
// they have.
func (d *drainer) moving(now time.Time, pods []corev1.Pod) bool {
	const patience = 30 * time.Second
	if now.Sub(d.moved) < time.Second {
		return true // its pod may not be seen to go yet
	}
	return slices.ContainsFunc(pods, func(p corev1.Pod) bool {
		return p.DeletionTimestamp != nil && hasVolume(&p) && now.Before(p.DeletionTimestamp.Add(patience))
	})
}

// isOver judges the node again, now and then. A refusal other than that there
// is nothing left to do ends the action.
func (d *drainer) isOver(ctx context.Context) (bool, error) {
	err := d.job.Desk.Recheck(ctx, recheckEvery)
	var refusal *guard.Refusal
	if errors.As(err, &refusal) && refusal.Outcome == heal.Skipped {
		return true, nil
	}
	return false, err
}

// drain evicts one pod, or files why not.
func (d *drainer) drain(ctx context.Context, target heal.Target) error {
	j := d.job
	facts, err := j.Reader.Facts(ctx, j.Decision, target)
	if err != nil {
		return err
	}
	if facts.Pod != nil && facts.Pod.Spec.NodeName != j.Decision.Target.Name {
		return nil // of the same name, elsewhere
	}
	if _, refusal := guard.Judge(facts, guard.Drained); refusal != nil {
		d.file(target, refusal)
		return nil
	}
	before := d.done
	for _, owner := range facts.Owners[:min(1, len(facts.Owners))] {
		if !slices.ContainsFunc(before.Workloads, func(t heal.Target) bool { return t.UID == string(owner.UID) }) {
			d.done.Workloads = append(slices.Clone(before.Workloads), owner.Target())
			j.Desk.Remember(d.done)
		}
	}
	err = evict(ctx, j, facts.Pod, target, nil)
	var refused *guard.Refusal
	if errors.As(err, &refused) {
		d.done = before
		j.Desk.Remember(before)
	}
	var wait *Wait
	var refusal *guard.Refusal
	switch {
	case err == nil:
		d.evicted++
		if hasVolume(facts.Pod) {
			d.moved = time.Now()
		}
	case errors.As(err, &wait):
		d.blocked[target.String()] = wait.Refusal.Detail
		key := target.UID
		if wait.Refusal.Reason == "Budget" {
			key = target.Namespace
		}
		d.held[key] = time.Now().Add(wait.For)
	case errors.As(err, &refusal) && refusal.Guard != guard.Brake:
		d.file(target, refusal)
	default:
		return err
	}
	return nil
}

// file sorts a refused pod in.
func (d *drainer) file(target heal.Target, refusal *guard.Refusal) {
	switch {
	case refusal.Outcome == heal.Skipped: // it is gone, or nobody's concern
	case refusal.Reason == guard.Floor, refusal.Reason == "PDB", refusal.Reason == "Expired":
		d.blocked[target.String()] = refusal.Detail
	default:
		d.left[target.String()] = refusal.Detail
	}
}

// step tells how the drain went.
func (d *drainer) step(over bool) heal.Step {
	s := heal.Step{Name: "drain", Status: heal.StepOK}
	parts := []string{fmt.Sprintf("%d pods evicted", d.evicted)}
	if len(d.left) > 0 {
		parts = append(parts, fmt.Sprintf("%d left alone (%s)", len(d.left), list(d.left)))
	}
	if len(d.blocked) > 0 {
		parts = append(parts, fmt.Sprintf("%d not evicted in time (%s)", len(d.blocked), list(d.blocked)))
		if !over {
			s.Status = heal.StepFailed
		}
	}
	if over {
		parts = append(parts, "ended early as the node is well again or gone")
	}
	s.Detail = strings.Join(parts, ", ")
	return s
}

// list is a few of the whys, in the order of their pods.
func list(whys map[string]string) string {
	const few = 5
	var texts []string
	for i, pod := range slices.Sorted(maps.Keys(whys)) {
		if i == few {
			texts = append(texts, fmt.Sprintf("and %d more", len(whys)-few))
			break
		}
		texts = append(texts, whys[pod])
	}
	return strings.Join(texts, "; ")
}

// roomFor says what of the node's pods does not fit on the other nodes; empty
// if all of it does.
func roomFor(ctx context.Context, j *Job) (string, error) {
	pods, err := j.Reader.PodsOn(ctx, j.Decision.Target.Name)
	if err != nil {
		return "", err
	}
	pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil || !guard.Movable(&p) })
	if len(pods) == 0 {
		return "", nil
	}
	spaces, err := spacesElsewhere(ctx, j.Reader, j.Decision.Target.Name)
	if err != nil {
		return "", err
	}
	var needs []need
	for i := range pods {
		needs = append(needs, requests(&pods[i]))
	}
	_, detail := hasRoom(spaces, needs)
	return detail, nil
}
