package action

import (
	"context"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
)

// mayChangeStatefulSet are the rights to change a StatefulSet's template, and
// to delete the pod that keeps its controller from acting upon that.
var mayChangeStatefulSet = slices.Concat(mayReadRevisions, []rbacv1.PolicyRule{
	{APIGroups: []string{"apps"}, Resources: []string{"statefulsets"}, Verbs: []string{"get", "patch"}},
	{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"delete"}},
})

// restartStatefulSet replaces all pods of a StatefulSet one after another,
// those first that do not work.
var restartStatefulSet = Action{
	Needs: mayChangeStatefulSet,
	Do: func(ctx context.Context, j *Job) error {
		if err := restartSet(ctx, j); err != nil {
			return err
		}
		return unstick(ctx, j)
	},
	Sights: func(j *Job) Sights {
		return setRolledOut(j, func(templateChange) string { return "its pods were replaced" })
	},
}
