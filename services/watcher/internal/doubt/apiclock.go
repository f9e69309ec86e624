package doubt

import (
	"fmt"
	"time"
)

const maxSkew = 30 * time.Second

// apiClock doubts what is seen when our clock is not the API server's: the
// ages of objects, leases and conditions are differences of the two.
func apiClock(_ *Mind, f Facts) string {
	switch {
	case !f.SkewKnown || f.Skew.Abs() <= maxSkew:
		return ""
	case f.Skew > 0:
		return fmt.Sprintf("the clock of this watcher is %s ahead of the API server's", rounded(f.Skew))
	}
	return fmt.Sprintf("the clock of this watcher is %s behind the API server's", rounded(-f.Skew))
}
