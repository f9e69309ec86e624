package demo

import (
	"context"
	"time"
)

// stalledRollout rolls out an image that cannot work. That only the pods of the
// new revision fail says what is to blame, so it is rolled back at once.
var stalledRollout = scenario{
	id:   "stalled-rollout",
	name: "a bad roll-out",
	story: "Somebody rolls out catalog:broken-v2, which crashes wherever it runs. The pods of v1 go on serving. " +
		"That only the pods of v2 fail says that v2 is to blame: what works is put back, long before Kubernetes' deadline of 10 min.",
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
