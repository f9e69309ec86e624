package demo

import (
	"context"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// badImage rolls out an image that cannot work. No restart cures that.
var badImage = scenario{
	id:   "bad-image",
	name: "a bad image, patiently",
	story: "Somebody rolls out cart:broken-v2. cart says nothing of a deadline, so the roll-out counts as under way for 10 min. " +
		"A restart cannot help here: the system has to notice that, stop by itself and call a person.",
	wants:  handedOver,
	within: 180 * time.Second,
	about:  ofWorkload("cart"),
	play: func(ctx context.Context, s *stage, w *watch) error {
		s.say(ctx, "BREAKS", "kubectl -n %s set image deployment/cart api=%s", namespace, image("cart", "broken-v2"))
		if err := setImage(ctx, s.kube, "cart", "broken-v2"); err != nil {
			return err
		}
		err := w.until(ctx, "the decision to roll back or to call a person", func(o observation) bool {
			return o.handedOverAndTold() || o.rolledBack()
		})
		if err != nil {
			return err
		}
		if o, _ := w.look(); !o.rolledBack() {
			pause(ctx) // people are not that quick
			s.say(ctx, "PERSON", "has been told, looks into it, and rolls back: kubectl -n %s rollout undo deployment/cart", namespace)
			if err := setImage(ctx, s.kube, "cart", "v1"); err != nil {
				return err
			}
		}
		if err := w.until(ctx, "the failures to be over", over); err != nil {
			return err
		}
		return waitWhole(ctx, s.kube, "cart")
	},
}

// rolledBack reports whether a roll-back was carried out and helped.
func (o observation) rolledBack() bool {
	return !o.Healed.IsZero() && len(o.Strategies) > 0 && o.Strategies[len(o.Strategies)-1] == heal.Rollback
}
