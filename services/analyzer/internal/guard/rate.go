package guard

import (
	"fmt"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// rate bounds what one analyzer sets off. The actuator keeps the cluster's
// budget; this only keeps a mistake here from becoming a flood there.
func rate(in Input) heal.Verdict {
	n := 0
	for _, at := range in.Acted {
		if in.Now.Sub(at) < time.Minute {
			n++
		}
	}
	if limit := in.Limits.ActionsPerMinute; n >= limit {
		return veto("RateLimited", fmt.Sprintf("%d decisions to act in the last minute, as many as are allowed", n))
	}
	return allow(fmt.Sprintf("%d of %d decisions to act in the last minute", n, in.Limits.ActionsPerMinute))
}
