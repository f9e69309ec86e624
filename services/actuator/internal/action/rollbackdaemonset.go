package action

// rollbackDaemonSet gives a DaemonSet the template of an older revision of its
// own that works. Its controller replaces those pods first that do not work.
var rollbackDaemonSet = Action{
	Needs: mayChangeDaemonSet,
	Do:    rollBackSet,
	Sights: func(j *Job) Sights {
		return setRolledOut(j, func(c templateChange) string { return "it has the template of " + c.To.String() + " again" })
	},
	Settle: settleRollback,
	Undo:   undoRollback,
}
