package action

import (
	"context"
	"errors"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// recreatePod deletes a pod that is not Ready, which no disruption budget can
// hold back, and evicts one that is. If its node is what it suffers from, the
// scheduler is told to prefer others meanwhile. Who has no controller is made
// anew by us, if that is permitted.
var recreatePod = Action{
	Needs: slices.Concat(mayEvict, mayTaint, []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"delete"}},
	}),
	Do: func(ctx context.Context, j *Job) error {
		if err := shun(ctx, j); err != nil {
			return err
		}
		return recreate(ctx, j)
	},
	Sights: replacement,
	Settle: func(ctx context.Context, j *Job, _ verify.Conclusion) (*heal.Undo, error) {
		return settleBare(ctx, j, settleTaint(ctx, j))
	},
}

func recreate(ctx context.Context, j *Job) error {
	if isBare(j) {
		return recreateBare(ctx, j)
	}
	if j.Facts.Pod != nil && guard.IsReady(j.Facts.Pod) {
		return evict(ctx, j, j.Facts.Pod, j.Decision.Target, remembering(j))
	}
	return deletePod(ctx, j, remembering(j))
}

// remembering is remember, to go beside the try of a request.
func remembering(j *Job) func(context.Context) error {
	return func(ctx context.Context) error { return remember(ctx, j) }
}

// ErrMoved says that a request was refused as its object has changed since it
// was judged.
var ErrMoved = errors.New("it has changed since it was judged")

// deletePod deletes the pod as it was when it was judged: a failing pod gets a
// new resourceVersion with each restart, and with any of them might be Ready.
func deletePod(ctx context.Context, j *Job, beside func(context.Context) error) error {
	target := j.Decision.Target
	for range 5 {
		version := ""
		if j.Facts.Pod != nil {
			version = j.Facts.Pod.ResourceVersion
		}
		err := deleteAt(ctx, j, target, version, beside)
		if !errors.Is(err, ErrMoved) {
			return err
		}
		if err := j.Desk.Recheck(ctx, 0); err != nil {
			return err
		}
		if j.Facts.Pod != nil && guard.IsReady(j.Facts.Pod) {
			return evict(ctx, j, j.Facts.Pod, target, beside)
		}
	}
	return ErrMoved
}

// deleteAt deletes the pod if it has that version, or returns ErrMoved.
func deleteAt(ctx context.Context, j *Job, target heal.Target, version string, beside func(context.Context) error) error {
	return j.Desk.Do(ctx, Request{
		Step: "delete", Target: target, Pod: true, Beside: beside,
		Send: func(ctx context.Context, dryRun []string) error {
			uid := types.UID(target.UID)
			err := j.Kube.CoreV1().Pods(target.Namespace).Delete(ctx, target.Name, metav1.DeleteOptions{
				DryRun:        dryRun,
				Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &version},
			})
			switch {
			case apierrors.IsNotFound(err):
				return guard.Refuse("delete", guard.Moot("TargetGone", "%s is gone", target))
			case apierrors.IsConflict(err):
				return ErrMoved
			}
			return answer(err, target)
		},
		Seen: podGoes(j, target),
	})
}
