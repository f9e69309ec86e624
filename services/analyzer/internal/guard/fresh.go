package guard

import (
	"fmt"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// fresh lets a backlog expire instead of acting on it: a failure that still
// lasts has been announced again since, and that announcement is fresh.
func fresh(in Input) heal.Verdict {
	age, oldest := in.Now.Sub(in.Announced), time.Duration(in.Limits.Oldest)
	if age > oldest {
		return veto("Stale", fmt.Sprintf("announced %s ago, longer than %s", age.Truncate(time.Second), oldest))
	}
	return allow(fmt.Sprintf("announced %s ago, within %s", max(0, age).Truncate(time.Second), oldest))
}
