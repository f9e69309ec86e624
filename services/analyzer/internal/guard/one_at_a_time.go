package guard

import (
	"cmp"
	"fmt"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

// oneAtATime lets a recovery end before another of the same fingerprint, or of
// another pod of the same owner, begins: both could only disturb each other,
// or cure the same thing twice. What is done to the owner itself need not wait
// for what is done to one of its pods.
func oneAtATime(in Input) heal.Verdict {
	if in.State.UnderWay(in.Now) {
		return underWay(in.State.Recovery)
	}
	kind := cmp.Or(in.Target.Kind, in.Failure.Target.Kind)
	for _, other := range in.Group.Others(in.Failure) {
		if other.UnderWay(in.Now) && (kind == "Pod" || other.Recovery.Kind != "Pod") {
			return underWay(other.Recovery)
		}
	}
	return allow("no recovery of it is under way")
}

func underWay(r incident.Recovery) heal.Verdict {
	return veto(heal.ReasonRecoveryUnderWay, fmt.Sprintf("%s by decision %s is under way, until %s at the latest",
		r.Strategy, r.Decision, r.Until.UTC().Format(time.RFC3339)))
}
