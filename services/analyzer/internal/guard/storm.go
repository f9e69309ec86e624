package guard

import (
	"fmt"
	"strconv"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// storm refuses to act on a node when many fail, and for a while after: then
// something is broken that they share, or it is we who cannot see. How many
// nodes there are only the watcher can say (metadata nodes, and
// nodes_not_ready as it sees them at the moment); the actuator counts again.
func storm(in Input) heal.Verdict {
	if in.Failure.Target.Kind != "Node" {
		return allow(in.Failure.Target.Kind + " is not a node")
	}
	cooldown := time.Duration(in.Limits.Storm.Cooldown)
	sick := max(1, in.NodesFailing)
	if n, err := strconv.Atoi(in.Failure.Metadata["nodes_not_ready"]); err == nil {
		sick = max(sick, n)
	}
	all, err := strconv.Atoi(in.Failure.Metadata["nodes"])
	switch {
	case (err != nil || all < 1) && sick > 1:
		return veto("Storm", fmt.Sprintf("%d nodes fail, or did within %s, and nobody says of how many", sick, cooldown))
	case err != nil || all < 1:
		return allow("no other node fails")
	}
	// A share alone would heal no cluster of fewer than five nodes.
	if limit := max(1, float64(all)*in.Limits.Storm.Share); float64(sick) > limit {
		return veto("Storm", fmt.Sprintf("%d of %d nodes fail, or did within %s, more than %.0f: that is not about %s alone", sick, all, cooldown, limit, in.Failure.Target))
	}
	return allow(fmt.Sprintf("%d of %d nodes fail", sick, all))
}
