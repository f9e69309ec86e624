package detect

import "time"

// RestartWindow is the window in which restarts are counted. The total in
// restartCount never falls: 300 restarts last year say nothing about today.
const RestartWindow = 10 * time.Minute

// OOMWindow is the window in which ends for want of memory are counted: a leak
// takes its time.
const OOMWindow = time.Hour

// maxRestarts bounds a Tally. No threshold may ask for more.
const maxRestarts = 64

// A Tally holds when something happened to a container, such as a restart,
// oldest first, at most maxRestarts times. It is a value: Add returns a new one.
type Tally []time.Time

// Add returns t with n more at now, without those that have left the window.
func (t Tally) Add(n int, now time.Time, window time.Duration) Tally {
	kept := t[len(t)-t.Within(now, window):]
	n = min(n, maxRestarts)
	kept = kept[max(0, len(kept)+n-maxRestarts):]
	sum := make(Tally, len(kept), len(kept)+n)
	copy(sum, kept)
	for range n {
		sum = append(sum, now)
	}
	return sum
}

// Within is how many there were in the window that ends at now.
func (t Tally) Within(now time.Time, window time.Duration) int {
	for i, at := range t {
		if now.Sub(at) < window {
			return len(t) - i
		}
	}
	return 0
}
