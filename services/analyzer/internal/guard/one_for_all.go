package guard

import (
	"fmt"

	"github.com/selfheal/selfheal/pkg/heal"
)

// manyPods is from how many of its pods on a trouble is the owner's, and not
// one of a pod.
const manyPods = 3

// oneForAll keeps from trying on pod after pod what was refused, or only tried
// without effect, for the first of many that fail alike: it would end in the
// same way. That first one may be tried again.
func oneForAll(in Input) heal.Verdict {
	n, last := in.Group.Wide(in.Failure.Reason, in.Now), in.State.Last
	if in.Failure.Type != heal.PodFailure || n < manyPods {
		return allow("few pods of its owner fail like this one")
	}
	if last.Outcome != heal.Rejected && last.Outcome != heal.DryRun || last.Incident != in.State.Incident.ID {
		return allow(fmt.Sprintf("%d pods of its owner fail like this one, and nothing was refused for another of them", n))
	}
	if in.State.Is(last.Episode, in.Failure) || !in.State.Going(last.Episode, in.Now) {
		return allow("it is the one of them that is acted upon")
	}
	return veto(heal.ReasonFollowsIncident, fmt.Sprintf("%d pods of its owner fail like this one, and for another of them decision %s ended as %s (%s)",
		n, last.Decision, last.Outcome, last.Reason))
}
