package action

import "context"

// rollbackStatefulSet gives a StatefulSet the template of an older revision of
// its own that works, and then takes away the pod that its controller waits for.
var rollbackStatefulSet = Action{
	Needs: mayChangeStatefulSet,
	Do: func(ctx context.Context, j *Job) error {
		if err := rollBackSet(ctx, j); err != nil {
			return err
		}
		return unstick(ctx, j)
	},
	Sights: func(j *Job) Sights {
		return setRolledOut(j, func(c templateChange) string { return "it has the template of " + c.To.String() + " again" })
	},
	Settle: settleRollback,
	Undo:   undoRollback,
}
