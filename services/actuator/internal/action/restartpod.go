package action

import (
	"context"

	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// restartPod evicts the pod, so that its controller makes another. (The API
// has no request that restarts a container.) One that has ended is only deleted,
// as its controller has made another already.
var restartPod = Action{
	Needs: recreatePod.Needs,
	Do: func(ctx context.Context, j *Job) error {
		if err := remember(ctx, j); err != nil {
			return err
		}
		var before verify.Before
		if j.Desk.Recall(&before) && before.Leftover {
			return deletePod(ctx, j)
		}
		return evict(ctx, j, j.Facts.Pod, j.Decision.Target)
	},
	Sights: replacement,
}
