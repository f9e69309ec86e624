package action

import (
	"context"
	"errors"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// restartService restarts the Deployment whose pods the service selects, as a
// service itself has nothing to restart.
var restartService = Action{
	Needs: slices.Concat(mayChangeTemplate, maySwitch[1:]),
	Do: func(ctx context.Context, j *Job) error {
		backing, err := backingOf(ctx, j)
		if err != nil {
			return err
		}
		for range 5 {
			facts, err := j.Reader.Facts(ctx, j.Decision, backing)
			if err != nil {
				return err
			}
			facts.Mode, facts.Approved = j.Facts.Mode, j.Facts.Approved
			if _, refusal := guard.Judge(facts, guard.Backing); refusal != nil {
				return Refused(refusal)
			}
			as := about(j, backing)
			as.Facts = facts
			change, err := planRestart(ctx, as, facts.Deployment)
			if err != nil {
				return err
			}
			j.Desk.Remember(backed{backing, change})
			if err := j.Desk.Do(ctx, restartRequest(as, change)); !errors.Is(err, ErrMoved) {
				return err
			}
		}
		return ErrMoved
	},
	Sights: func(j *Job) Sights {
		var b backed
		j.Desk.Recall(&b)
		as := about(j, b.By)
		as.Desk = remembered{j.Desk, b.Change}
		return rolledOut(as, func(templateChange) string { return "its pods were replaced" })
	},
}

// A backed is what the restart of a service must remember.
type backed struct {
	By     heal.Target    `json:"by"`
	Change templateChange `json:"change"`
}

// about is the job as one about another object.
func about(j *Job, target heal.Target) *Job {
	as := *j
	as.Decision.Target = target
	return &as
}

// A remembered desk recalls what it is given.
type remembered struct {
	Desk
	change templateChange
}

// Recall implements Desk.
func (r remembered) Recall(v any) bool {
	c, ok := v.(*templateChange)
	if ok {
		*c = r.change
	}
	return ok
}

// backingOf is the one Deployment behind the service.
func backingOf(ctx context.Context, j *Job) (heal.Target, error) {
	var b backed
	if j.Desk.Recall(&b) {
		return b.By, nil
	}
	target, s := j.Decision.Target, j.Facts.Service
	if s == nil || len(s.Spec.Selector) == 0 {
		return heal.Target{}, guard.Refuse("backing", guard.Veto("NoSelector", "%s selects no pods, so nothing is behind it that could be restarted", target))
	}
	pods, err := j.Kube.CoreV1().Pods(target.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.Set(s.Spec.Selector).String()})
	if err != nil {
		return heal.Target{}, answer(err, target)
	}
	found := map[string]heal.Target{}
	for i := range pods.Items {
		p := &pods.Items[i]
		facts, err := j.Reader.Facts(ctx, j.Decision, heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)})
		if err != nil {
			return heal.Target{}, err
		}
		if n := len(facts.Owners); n > 0 {
			top := facts.Owners[n-1].Target()
			found[top.UID] = top
		}
		const enough = 20
		if i >= enough {
			break
		}
	}
	for _, t := range found {
		if len(found) == 1 && t.Kind == "Deployment" {
			return t, nil
		}
	}
	return heal.Target{}, guard.Refuse("backing", guard.Veto("NoSingleBacking", "%d workloads are behind %s, and only a single Deployment is restarted", len(found), target))
}
