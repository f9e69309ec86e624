package incident

import (
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// maxMissed is how many gaps in an episode's occurrences are remembered. They
// only arise when messages overtake each other.
const maxMissed = 8

// An Episode is what is remembered of one condition on one object.
type Episode struct {
	ID       string   `json:"id"`
	Last     int      `json:"last,omitempty"`    // the newest occurrence that was decided; 0: only its end is known
	Missed   [][2]int `json:"missed,omitempty"`  // first and last of occurrences before Last that were not
	Counted  int64    `json:"counted,omitempty"` // when its newest counted occurrence was observed, in ms; 0: none is
	Heard    int64    `json:"heard"`             // when it was last heard of, by our clock, in ms
	Resolved bool     `json:"resolved,omitempty"`
	Incident string   `json:"incident,omitempty"` // of a resolved episode; others belong to the open one
	Where    string   `json:"w,omitempty"`        // Mark of the node that it is on
	Rev      string   `json:"r,omitempty"`        // Mark of the revision that its pod is of
}

func (e Episode) heard() time.Time { return time.UnixMilli(e.Heard) }

// open reports whether the episode is going on. One that was not heard of for
// so long is over: the watcher that opened it cannot say so any more.
func (e Episode) open(now time.Time) bool { return !e.Resolved && now.Sub(e.heard()) <= memory }

// decided reports whether occurrence n has its decision.
func (e Episode) decided(n int) bool {
	return n <= e.Last && !slices.ContainsFunc(e.Missed, func(gap [2]int) bool { return gap[0] <= n && n <= gap[1] })
}

// decide returns the episode with occurrence n decided.
func (e Episode) decide(n int) Episode {
	var missed [][2]int
	for _, gap := range e.Missed {
		if n < gap[0] || gap[1] < n {
			missed = append(missed, gap)
			continue
		}
		if gap[0] < n {
			missed = append(missed, [2]int{gap[0], n - 1})
		}
		if n < gap[1] {
			missed = append(missed, [2]int{n + 1, gap[1]})
		}
	}
	if n > e.Last+1 {
		missed = append(missed, [2]int{e.Last + 1, n - 1})
	}
	e.Missed = missed[max(0, len(missed)-maxMissed):]
	e.Last = max(e.Last, n)
	return e
}

// countedWithin reports whether the episode is itself among the failures that
// count as similar to one observed at.
func (e Episode) countedWithin(at time.Time, window time.Duration) bool {
	return e.Counted != 0 && at.Sub(time.UnixMilli(e.Counted)).Abs() < window
}

// episodeID is f's, or a digest if it is longer than ours are.
func episodeID(f heal.Failure) string {
	if len(f.EpisodeID) <= 40 {
		return f.EpisodeID
	}
	return heal.ID("e", f.EpisodeID)
}

// Is reports whether f is of the episode of that id.
func (s State) Is(id string, f heal.Failure) bool { return id == episodeID(f) }

// Going reports whether the episode of that id is going on.
func (s State) Going(id string, now time.Time) bool {
	e, known := s.episode(id)
	return known && e.open(now)
}

// episode finds what is remembered of an episode.
func (s State) episode(id string) (Episode, bool) {
	for _, e := range slices.Backward(s.Episodes) {
		if e.ID == id {
			return e, true
		}
	}
	return Episode{ID: id}, false
}

// put returns the state with e as the episode most recently heard of, and
// without those that time or the bounds take.
func (s State) put(e Episode, now time.Time, window time.Duration) State {
	episodes, resolved := make([]Episode, 0, len(s.Episodes)+1), 0
	keep := func(e Episode) {
		episodes = append(episodes, e)
		if e.Resolved {
			resolved++
		}
	}
	for _, old := range s.Episodes {
		limit := memory
		if old.Resolved {
			limit = window
		}
		if old.ID != e.ID && now.Sub(old.heard()) <= limit {
			keep(old)
		}
	}
	keep(e)
	for ; resolved > maxResolved; resolved-- {
		i := slices.IndexFunc(episodes, func(e Episode) bool { return e.Resolved })
		episodes = slices.Delete(episodes, i, i+1)
	}
	s.Episodes = episodes[max(0, len(episodes)-maxEpisodes):]
	return s
}
