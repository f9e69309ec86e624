package e2e

import (
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

var badImage = scenario{
	name:   "crash by a bad image",
	proves: "the roll-out is to blame, and is taken back by one write, long before its deadline of 10 min",
	homes:  1,
	play: func(s *stage) {
		s.deploy("cart", "shop/cart:1", 2)
		s.breaks(s.rollOut("deployments", "cart", `{"name":"app","image":"shop/cart:broken"}`))
		r := s.ends(90*time.Second, end{heal.Rollback, "Deployment", heal.Succeeded, "Verified", []string{"patch deployments"}})
		if got := r.Decision.Cause.Kind; got != heal.CauseRollout {
			s.Errorf("cause %s, want rollout", got)
		}
		s.image("cart", "shop/cart:1", 2)
		s.stays()
	},
}
