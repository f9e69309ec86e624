package action

import (
	"context"

	"github.com/selfheal/selfheal/pkg/heal"
)

// emergencyReplaceNode needs proof that the machine is dead, which only a
// provider could give. Without one it does what is safe on a machine that may
// still live.
var emergencyReplaceNode = Action{
	Needs: drainAndReplaceNode.Needs,
	Node:  true,
	Do: func(ctx context.Context, j *Job) error {
		j.Desk.Note(heal.Step{Name: string(heal.EmergencyReplace), Status: heal.StepSkipped,
			Detail: "no proof that the machine is dead (no provider configured): cordoned and drained instead"})
		return drainAndReplace(ctx, j)
	},
	Sights: drainAndReplaceNode.Sights,
	Settle: drainAndReplaceNode.Settle,
}
