package episode

import "time"

const (
	// flapping is how often a failure must have ended within flapWindow to be
	// flapping when it begins again. No calm has meant much then, and the next
	// may mean as little.
	flapping   = 3
	flapWindow = time.Hour

	maxEnds = 16_384
)

// ends is a short memory of episodes that are over: when, oldest first. It
// does not outlive a restart, as nothing depends on it but a hint.
type ends struct {
	list   []end
	counts map[Key]int // of list
}

type end struct {
	key Key
	at  time.Time
}

// add takes in that an episode of key has ended.
func (e *ends) add(key Key, now time.Time) {
	e.forget(now)
	if len(e.list) >= maxEnds {
		e.drop(1)
	}
	if e.counts == nil {
		e.counts = map[Key]int{}
	}
	e.list = append(e.list, end{key, now})
	e.counts[key]++
}

// count is how many episodes of key have ended within the window.
func (e *ends) count(key Key, now time.Time) int {
	e.forget(now)
	return e.counts[key]
}

// forget drops what has left the window.
func (e *ends) forget(now time.Time) {
	n := 0
	for n < len(e.list) && now.Sub(e.list[n].at) >= flapWindow {
		n++
	}
	e.drop(n)
}

// drop forgets the n oldest.
func (e *ends) drop(n int) {
	for _, old := range e.list[:n] {
		if e.counts[old.key]--; e.counts[old.key] == 0 {
			delete(e.counts, old.key)
		}
	}
	e.list = e.list[n:]
	if len(e.list) == 0 {
		e.list = nil // lets go of its memory
	}
}
