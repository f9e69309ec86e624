package demo

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// badImage deploys something that has never worked. No restart cures that, and
// there is nothing to roll back to.
var badImage = scenario{
	id:   "bad-image",
	name: "a bad image, patiently",
	story: "Somebody deploys wishlist:broken-v1, which crashes wherever it runs, and has no older revision that works. " +
		"A restart cannot help here: the system has to notice that, stop by itself and call a person.",
	wants:  handedOver,
	within: 180 * time.Second,
	about:  ofWorkload("wishlist"),
	play: func(ctx context.Context, s *stage, w *watch) error {
		s.say(ctx, "BREAKS", "kubectl -n %s create deployment wishlist --image=%s", namespace, image("wishlist", "broken-v1"))
		d := deployment("wishlist", 1)
		d.Spec.Template.Spec.Containers[0].Image = image("wishlist", "broken-v1")
		if _, err := s.kube.AppsV1().Deployments(namespace).Create(ctx, d, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("create deployment wishlist: %w", err)
		}
		if err := w.until(ctx, "the decision to call a person", observation.handedOverAndTold); err != nil {
			return err
		}
		pause(ctx) // people are not that quick
		s.say(ctx, "PERSON", "has been told, looks into it, and corrects it: kubectl -n %s set image deployment/wishlist api=%s", namespace, image("wishlist", "v1"))
		if err := setImage(ctx, s.kube, "wishlist", "v1"); err != nil {
			return err
		}
		if err := w.until(ctx, "the failures to be over", over); err != nil {
			return err
		}
		return waitWhole(ctx, s.kube, "wishlist")
	},
}

// rolledBack reports whether a roll-back was carried out and helped.
func (o observation) rolledBack() bool {
	return !o.Healed.IsZero() && len(o.Strategies) > 0 && o.Strategies[len(o.Strategies)-1] == heal.Rollback
}
