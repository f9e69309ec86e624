package action

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// mayEvict are the rights to evict.
var mayEvict = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods/eviction"}, Verbs: []string{"create"}},
}

// remember writes down who will replace the target pod, before it is gone.
func remember(ctx context.Context, j *Job) error {
	if j.Desk.Recall(&verify.Before{}) || j.Facts.Pod == nil {
		return nil
	}
	if len(j.Facts.Owners) == 0 {
		return guard.Refuse("owned", guard.Veto("OwnerGone", "the owner of %s is gone", j.Decision.Target))
	}
	owner := j.Facts.Owners[0]
	pods, err := j.Reader.PodsBeside(ctx, j.Facts.Pod, owner)
	if err != nil {
		return err
	}
	j.Desk.Remember(verify.Remember(j.Facts.Pod, j.Decision.Target, owner.Target(), owner.Selector, pods))
	return nil
}

// evict asks for the pod to go, honouring disruption budgets.
func evict(ctx context.Context, j *Job, pod *corev1.Pod, target heal.Target, beside func(context.Context) error) error {
	if err := j.Cooldowns.check(ctx, j.Reader, pod, target); err != nil {
		return err
	}
	return j.Desk.Do(ctx, Request{
		Step: "evict", Target: target, Pod: true, Beside: beside,
		Send: func(ctx context.Context, dryRun []string) error {
			uid := types.UID(target.UID)
			err := j.Kube.PolicyV1().Evictions(target.Namespace).Evict(ctx, &policyv1.Eviction{
				ObjectMeta: metav1.ObjectMeta{Namespace: target.Namespace, Name: target.Name},
				DeleteOptions: &metav1.DeleteOptions{
					DryRun:        dryRun,
					Preconditions: &metav1.Preconditions{UID: &uid},
				},
			})
			if len(dryRun) == 0 && (apierrors.IsConflict(err) || isBlocked(err)) {
				j.Cooldowns.start(ctx, j.Reader, pod)
			}
			return evictionAnswer(ctx, err, j.Reader, pod, target)
		},
		Seen: podGoes(j, target),
	})
}

// podGoes reports whether the pod is gone, or on its way.
func podGoes(j *Job, target heal.Target) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		pod, err := j.Kube.CoreV1().Pods(target.Namespace).Get(ctx, target.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("read %s: %w", target, err)
		}
		return string(pod.UID) != target.UID || pod.DeletionTimestamp != nil, nil
	}
}

// evictionAnswer knows what the eviction API means by its answers. Neither of
// its refusals is ever answered by a DELETE.
func evictionAnswer(ctx context.Context, err error, r live.Reader, pod *corev1.Pod, target heal.Target) error {
	switch {
	case apierrors.IsNotFound(err):
		return guard.Refuse("eviction", guard.Moot("TargetGone", "%s is gone", target))
	case apierrors.IsConflict(err):
		return guard.Refuse("eviction", guard.Moot("TargetReplaced", "%s is another object by now", target))
	case isBlocked(err):
		return blocked(ctx, r, pod, target)
	case apierrors.IsInternalError(err) && pod != nil:
		budgets, readErr := r.Budgets(ctx, pod)
		if readErr != nil || len(budgets) < 2 {
			return err
		}
		return misconfigured(budgets, target)
	}
	return answer(err, target)
}

// isBlocked reports whether it is a disruption budget that refuses.
func isBlocked(err error) bool {
	return apierrors.IsTooManyRequests(err) && apierrors.HasStatusCause(err, policyv1.DisruptionBudgetCause)
}

// blocked says which budget refuses the eviction, and why. That of a Ready pod
// may have room in a moment. For one that is not Ready it means that too few
// others are, which waiting for the same decision does not cure.
func blocked(ctx context.Context, r live.Reader, pod *corev1.Pod, target heal.Target) error {
	why := "a PodDisruptionBudget allows no disruption"
	if pod == nil {
		return &Wait{30 * time.Second, guard.Refuse("pdb", guard.Veto("PDB", "%s is not evicted: %s", target, why))}
	}
	budgets, err := r.Budgets(ctx, pod)
	if err != nil {
		why += fmt.Sprintf(" (which one could not be read: %s)", heal.Clean(err.Error(), heal.MaxText))
	}
	if len(budgets) > 1 {
		return misconfigured(budgets, target)
	}
	for _, b := range budgets {
		why = b.Why()
	}
	ready := guard.IsReady(pod)
	if !ready && len(budgets) == 1 && !budgets[0].SparesUnhealthy() {
		why += "; unhealthyPodEvictionPolicy: AlwaysAllow would let pods go that are not Ready anyway"
	}
	refusal := guard.Refuse("pdb", guard.Veto("PDB", "%s is not evicted: %s", target, why))
	if !ready {
		return refusal
	}
	return &Wait{30 * time.Second, refusal}
}

func misconfigured(budgets []live.Budget, target heal.Target) error {
	var names []string
	for _, b := range budgets {
		names = append(names, b.Name())
	}
	return guard.Refuse("pdb", guard.Veto("PDBMisconfigured", "%s is covered by %d disruption budgets, and then Kubernetes evicts nothing: %s",
		target, len(names), strings.Join(names, ", ")))
}

// replacement looks for the pod that is made in place of the target.
func replacement(j *Job) Sights {
	if isBare(j) {
		return bareReplacement(j)
	}
	var before verify.Before
	j.Desk.Recall(&before)
	return Sights{
		Look: func(ctx context.Context) (verify.Sight, error) {
			owner, found, err := j.Reader.Owner(ctx, before.Controller)
			if err != nil {
				return verify.Sight{}, err
			}
			pods, err := j.Reader.PodsOfTarget(ctx, before.Controller, before.Selector)
			if err != nil {
				return verify.Sight{}, err
			}
			return verify.Replacement{
				Before: before,
				Owned:  found && owner.DeletionTimestamp == nil,
				Wanted: owner.Wanted,
				Pods:   pods,
				Now:    time.Now(),
			}.Judge(), nil
		},
		Follow: func(ctx context.Context, changed chan<- struct{}) {
			j.Reader.FollowPods(ctx, before.Controller.Namespace, before.Selector, changed)
		},
	}
}
