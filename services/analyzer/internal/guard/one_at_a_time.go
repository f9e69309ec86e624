package guard

import (
	"fmt"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// oneAtATime lets a recovery end before another of the same fingerprint
// begins: both could only disturb each other, or cure the same thing twice.
func oneAtATime(in Input) heal.Verdict {
	r := in.State.Recovery
	if !in.State.UnderWay(in.Now) {
		return allow("no recovery of it is under way")
	}
	return veto(heal.ReasonRecoveryUnderWay, fmt.Sprintf("%s by decision %s is under way, until %s at the latest",
		r.Strategy, r.Decision, r.Until.UTC().Format(time.RFC3339)))
}
