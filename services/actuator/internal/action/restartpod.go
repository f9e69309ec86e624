package action

import "context"

// restartPod evicts the pod, so that its controller makes another. (The API
// has no request that restarts a container.)
var restartPod = Action{
	Kinds: []string{"Pod"},
	Needs: mayEvict,
	Do: func(ctx context.Context, j *Job) error {
		if err := remember(ctx, j); err != nil {
			return err
		}
		return evict(ctx, j, j.Facts.Pod, j.Decision.Target)
	},
	Sights: replacement,
}
