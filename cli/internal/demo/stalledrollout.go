package demo

import (
	"context"
	"time"
)

// stalledRollout rolls out an image that cannot work, to a Deployment that says
// how long a roll-out may take. When that is over, it is rolled back.
var stalledRollout = scenario{
	id:   "stalled-rollout",
	name: "a roll-out stalls",
	story: "Somebody rolls out catalog:broken-v2, which crashes wherever it runs. The pods of v1 go on serving. " +
		"catalog says that a roll-out may take 8 s (progressDeadlineSeconds); then the last revision that works is put back.",
	wants:  healed,
	within: 120 * time.Second,
	about:  ofWorkload("catalog"),
	play: func(ctx context.Context, s *stage, w *watch) error {
		s.say(ctx, "BREAKS", "kubectl -n %s set image deployment/catalog api=%s", namespace, image("catalog", "broken-v2"))
		if err := setImage(ctx, s.kube, "catalog", "broken-v2"); err != nil {
			return err
		}
		if err := w.until(ctx, "the roll-back, and its proof", observation.rolledBack); err != nil {
			return err
		}
		if err := w.until(ctx, "the failures to be over", over); err != nil {
			return err
		}
		return waitWhole(ctx, s.kube, "catalog")
	},
}
