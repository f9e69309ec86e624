package action

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/pause"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// emergencyFailoverService is failoverService, but a standby that has no Ready
// pod is scaled up first, to as many as its own workload permits.
var emergencyFailoverService = Action{
	Needs: slices.Concat(maySwitch, []rbacv1.PolicyRule{
		{APIGroups: []string{"apps"}, Resources: []string{"deployments"}, Verbs: []string{"get", "list", "patch"}},
	}),
	Do: func(ctx context.Context, j *Job) error {
		return failover(ctx, j, func(ctx context.Context, s *switchOver) error { return wakeStandby(ctx, j, s) })
	},
	Sights: switched,
	Settle: settleFailover,
	Undo:   undoFailover,
}

// wakeStandby scales the standby's Deployment up if no pod of it is Ready, and
// waits for one.
func wakeStandby(ctx context.Context, j *Job, s *switchOver) error {
	ready, _, err := j.Reader.ReadyPods(ctx, s.Service.Namespace, s.To, time.Now())
	if err != nil || ready > 0 {
		return err
	}
	if s.Scaled == nil {
		if err := planScale(ctx, j, s); err != nil || s.Scaled == nil {
			return err
		}
	}
	left, err := leftover(j, leftFailover, *s)
	if err != nil {
		return err
	}
	if err := j.Leftovers.Add(ctx, left); err != nil {
		return fmt.Errorf("write down the scaling of %s: %w", s.Scaled.Target, err)
	}
	read := func(ctx context.Context) (*appsv1.Deployment, error) {
		return j.Reader.Deployment(ctx, s.Scaled.Namespace, s.Scaled.Name)
	}
	err = j.Desk.Do(ctx, Request{
		Step: "scale", Target: s.Scaled.Target,
		Send: func(ctx context.Context, dryRun []string) error {
			d, err := read(ctx)
			switch {
			case err != nil:
				return err
			case d == nil || string(d.UID) != s.Scaled.UID:
				return guard.Refuse("standby", guard.Veto("StandbyNotReady", "%s, the standby's workload, is gone", s.Scaled.Target))
			case guard.Wanted(d) >= s.Scaled.To:
				return nil // somebody else did
			case permitted(d) < s.Scaled.To:
				return guard.Refuse("standby", guard.Veto("StandbyNotReady", "%s permits only %d replicas by now", s.Scaled.Target, permitted(d)))
			}
			return scaleTo(ctx, j.Kube, *s.Scaled, d, s.Scaled.To, dryRun)
		},
		Seen: func(ctx context.Context) (bool, error) {
			d, err := read(ctx)
			return err == nil && d != nil && string(d.UID) == s.Scaled.UID && guard.Wanted(d) >= s.Scaled.To, err
		},
	})
	if err != nil || j.DryRun {
		return err
	}
	for {
		ready, _, err := j.Reader.ReadyPods(ctx, s.Service.Namespace, s.To, time.Now())
		if err != nil || ready > 0 || !time.Now().Add(time.Second).Before(j.Desk.LastWrite()) {
			return err // that none is Ready is said by who looks next
		}
		if err := j.Desk.Recheck(ctx, recheckEvery); err != nil {
			return err
		}
		if !pause.For(ctx, time.Second) {
			return context.Cause(ctx)
		}
	}
}

// planScale finds the one Deployment that makes the standby's pods, and by how
// much it may be scaled up; none if it may not.
func planScale(ctx context.Context, j *Job, s *switchOver) error {
	list, err := j.Kube.AppsV1().Deployments(s.Service.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return answer(err, s.Service)
	}
	var found []*appsv1.Deployment
	for i := range list.Items {
		if d := &list.Items[i]; labels.SelectorFromSet(s.To).Matches(labels.Set(d.Spec.Template.Labels)) && d.DeletionTimestamp == nil {
			found = append(found, d)
		}
	}
	skip := func(format string, args ...any) error {
		j.Desk.Note(heal.Step{Name: "scale", Status: heal.StepSkipped, Detail: fmt.Sprintf(format, args...)})
		return nil
	}
	if len(found) != 1 {
		return skip("%d Deployments make pods of the standby (%s), 1 is wanted", len(found), labels.Set(s.To))
	}
	d := found[0]
	target := heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: d.Namespace, Name: d.Name, UID: string(d.UID)}
	if who, seen := guard.ManagedBy(d.ObjectMeta); who != "" {
		return skip("%s is managed by %s (%s), which would scale it back", target, who, seen)
	}
	to := permitted(d)
	if to <= guard.Wanted(d) {
		return skip("%s wants %d replicas, and its annotation %s permits no more", target, guard.Wanted(d), guard.PermitReplicas)
	}
	facts, err := j.Reader.Facts(ctx, j.Decision, target)
	if err != nil {
		return err
	}
	facts.Mode, facts.Approved = j.Facts.Mode, j.Facts.Approved
	if _, refusal := guard.Judge(facts, guard.Backing); refusal != nil {
		return skip("%s", refusal.Detail)
	}
	s.Scaled = &scaled{Target: target, From: guard.Wanted(d), To: to}
	j.Desk.Remember(*s)
	return nil
}
