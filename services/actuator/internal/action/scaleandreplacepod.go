package action

import (
	"context"

	"github.com/selfheal/selfheal/pkg/heal"
)

// annotationMaxReplicas, on the owner, permits to run one pod more for a while.
const annotationMaxReplicas = heal.Domain + "/max-replicas"

// scaleAndReplacePod replaces the pod without running one more in between: it
// says why, and recreates.
var scaleAndReplacePod = Action{
	Needs: recreatePod.Needs,
	Do: func(ctx context.Context, j *Job) error {
		detail := "not permitted (no " + annotationMaxReplicas + " on the owner): recreated instead"
		for _, o := range j.Facts.Owners {
			if value, ok := o.Annotations[annotationMaxReplicas]; ok {
				detail = o.String() + " permits it (" + annotationMaxReplicas + ": " + heal.Clean(value, 16) +
					"), but running one pod more is not supported: recreated instead"
			}
		}
		j.Desk.Note(heal.Step{Name: string(heal.ScaleAndReplace), Status: heal.StepSkipped, Detail: detail})
		return recreate(ctx, j)
	},
	Sights: recreatePod.Sights,
}
