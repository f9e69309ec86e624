package e2e

import (
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

var badConfig = scenario{
	name:   "bad configuration",
	proves: "a roll-out that refers to a ConfigMap that is not there is taken back, and the ConfigMap named",
	long:   true,
	homes:  1,
	play: func(s *stage) {
		s.deploy("prices", "shop/prices:1", 2)
		s.breaks(s.rollOut("deployments", "prices", `{"name":"app","envFrom":[{"configMapRef":{"name":"rates"}}]}`))
		r := s.ends(3*time.Minute, end{heal.Rollback, "Deployment", heal.Succeeded, "Verified", []string{"patch deployments"}})
		if said := strings.Join(r.Decision.Cause.Evidence, "; "); !strings.Contains(said, "ConfigMap rates is missing") {
			s.Errorf("the cause's evidence %q does not name the ConfigMap", said)
		}
		s.image("prices", "shop/prices:1", 2)
		s.stays()
	},
}
