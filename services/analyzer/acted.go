package analyzer

import (
	"slices"
	"sync"
	"time"
)

// acted remembers when this process decided to act, for a minute. The zero
// value is ready, and it is safe for concurrent use.
type acted struct {
	mu sync.Mutex // guards at
	at []time.Time
}

// before returns the times of the minute before now.
func (a *acted) before(now time.Time) []time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(now)
	return slices.Clone(a.at)
}

// take takes a place at now, unless there are limit of them in a minute.
func (a *acted) take(now time.Time, limit int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forget(now)
	if len(a.at) >= limit {
		return false
	}
	a.at = append(a.at, now)
	return true
}

// giveBack frees the place taken at a time; the zero time is none.
func (a *acted) giveBack(at time.Time) {
	if at.IsZero() {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if i := slices.Index(a.at, at); i >= 0 {
		a.at = slices.Delete(a.at, i, i+1)
	}
}

func (a *acted) forget(now time.Time) {
	a.at = slices.DeleteFunc(a.at, func(t time.Time) bool { return now.Sub(t) >= time.Minute })
}
