package action

import (
	"context"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// restartPod evicts the pod, so that its controller makes another. (The API
// has no request that restarts a container.) One that has ended is only deleted,
// as its controller has made another already; one without a controller is
// recreated.
var restartPod = Action{
	Needs: recreatePod.Needs,
	Do: func(ctx context.Context, j *Job) error {
		if isBare(j) {
			return recreateBare(ctx, j)
		}
		var before verify.Before
		if j.Desk.Recall(&before) && before.Leftover || j.Facts.Pod != nil && guard.Ended(j.Facts.Pod) {
			return deletePod(ctx, j, remembering(j))
		}
		return evict(ctx, j, j.Facts.Pod, j.Decision.Target, remembering(j))
	},
	Sights: replacement,
	Settle: func(ctx context.Context, j *Job, _ verify.Conclusion) (*heal.Undo, error) {
		return settleBare(ctx, j, nil)
	},
}
