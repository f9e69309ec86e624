package e2e

import (
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

var surgeOfOne = scenario{
	name:     "surge on a single replica",
	proves:   "one pod more, Ready first, then the bad one goes and the number is as before; here by a policy's rule, else after four similar failures",
	rule:     `failure.namespace == %q && failure.type == "pod_failure"`,
	severity: heal.Critical,
	homes:    1,
	play: func(s *stage) {
		s.deploy("search", "shop/search:1", 1, annotated("selfheal.dev/max-replicas", "2"))
		s.breaks(s.fares(s.pod("search").Name, "crash"))
		s.ends(90*time.Second, end{heal.ScaleAndReplace, "Pod", heal.Succeeded, "Verified", []string{"patch deployments", "delete pods", "patch deployments"}})
		s.image("search", "shop/search:1", 1)
		s.stays()
	},
}
