package guard

import (
	"fmt"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// backoff rests after a try that did not help, longer after each, and gives up
// for a while after several in a row. Then one more is allowed: if that fails
// too, it gives up again.
func backoff(in Input) heal.Verdict {
	n := in.State.Failed
	if n == 0 {
		return allow("no try failed")
	}
	tries := fmt.Sprintf("%d failed tries in a row", n)
	if n == 1 {
		tries = "1 failed try"
	}
	since := in.Now.Sub(in.State.LastFailed)
	giveUp := in.Limits.GiveUp
	if left := time.Duration(giveUp.For) - since; n >= giveUp.After && left > 0 {
		return veto("GivenUp", fmt.Sprintf("%s, a person must look: blocked for %s, %s left", tries, giveUp.For, rounded(left)))
	}
	rest := in.Limits.Backoff.After(n)
	if left := rest - since; left > 0 {
		return veto("Backoff", fmt.Sprintf("%s: rest for %s, %s left", tries, rest, rounded(left)))
	}
	return allow(fmt.Sprintf("%s, the last %s ago, longer than the rest of %s", tries, rounded(since), rest))
}

// rounded is up to whole seconds: a rest that is not over is never 0 s.
func rounded(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
