package action

import (
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
)

// mayChangeDaemonSet are the rights to change a DaemonSet's template.
var mayChangeDaemonSet = slices.Concat(mayReadRevisions, []rbacv1.PolicyRule{
	{APIGroups: []string{"apps"}, Resources: []string{"daemonsets"}, Verbs: []string{"get", "patch"}},
})

// restartDaemonSet replaces all pods of a DaemonSet, in the way that its own
// strategy says. Its controller begins with those that do not work.
var restartDaemonSet = Action{
	Needs: mayChangeDaemonSet,
	Do:    restartSet,
	Sights: func(j *Job) Sights {
		return setRolledOut(j, func(templateChange) string { return "its pods were replaced" })
	},
}
