package detect

import "time"

// RestartWindow is the window in which restarts are counted. The total in
// restartCount never falls: 300 restarts last year say nothing about today.
const RestartWindow = 10 * time.Minute

// maxRestarts bounds a Tally. No threshold may ask for more.
const maxRestarts = 64

// A Tally holds when a container was seen to restart, oldest first, at most
// maxRestarts of them. It is a value: Add returns a new one.
type Tally []time.Time

// Add returns t with n restarts seen at now, without those that have left the
// window.
func (t Tally) Add(n int, now time.Time) Tally {
	kept := t[len(t)-t.Within(now):]
	n = min(n, maxRestarts)
	kept = kept[max(0, len(kept)+n-maxRestarts):]
	sum := make(Tally, len(kept), len(kept)+n)
	copy(sum, kept)
	for range n {
		sum = append(sum, now)
	}
	return sum
}

// Within is how many restarts were seen in the window that ends at now.
func (t Tally) Within(now time.Time) int {
	for i, at := range t {
		if now.Sub(at) < RestartWindow {
			return len(t) - i
		}
	}
	return 0
}
