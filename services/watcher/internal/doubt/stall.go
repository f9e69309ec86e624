package doubt

import (
	"fmt"
	"time"
)

// maxStall is how long this process may stand still. It looks at itself every
// second.
const maxStall = 30 * time.Second

// stall doubts what is seen when the process was not running for a while: what
// it sees then is what was waiting for it, and old.
func stall(m *Mind, f Facts) string {
	if gap := f.Up - m.last.Up; m.looked && gap > maxStall {
		return fmt.Sprintf("this watcher stood still for %s", rounded(gap))
	}
	return ""
}
