package doubt

import (
	"fmt"
	"time"
)

const (
	maxJump = 30 * time.Second
	// rebase is how long the clocks may drift before they are compared anew: a
	// clock that is steered runs a little faster or slower for a long time.
	rebase = 5 * time.Minute
)

// clockJump doubts what is seen when the wall clock went another way than the
// monotonic one: holds, ages and deadlines are measured with it. A machine
// that slept looks the same, and has as much to make up for.
func clockJump(m *Mind, f Facts) string {
	offset := time.Duration(f.Now.UnixNano()) - f.Up
	if !m.looked {
		m.offset, m.offsetAt = offset, f.Up
		return ""
	}
	jump := offset - m.offset
	if jump.Abs() > maxJump {
		m.offset, m.offsetAt = offset, f.Up
		return fmt.Sprintf("the clock of this watcher jumped by %s", rounded(jump))
	}
	if f.Up-m.offsetAt >= rebase {
		m.offset, m.offsetAt = offset, f.Up
	}
	return ""
}
