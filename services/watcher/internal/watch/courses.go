package watch

import (
	"time"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// courses is how workloads have been going: when each was rolled out, scaled,
// and last came further. A few dozen bytes each.
type courses struct {
	began time.Time // times are kept as distances from it: they are many
	of    map[string]course
}

type course struct {
	revision                   string
	asked                      int32 // replicas
	reached                    int32 // at most, of this revision and number
	fromZero                   bool
	rolled, scaled, progressed time.Duration
}

func newCourses(now time.Time) *courses {
	return &courses{began: now, of: map[string]course{}}
}

// note takes in how a workload is now: its revision, how many replicas it asks
// for, and how many are of that revision. One that is new to us counts as
// rolled out and scaled just now, as we cannot know better.
func (c *courses) note(uid, revision string, asked, reached int32, now time.Time) {
	at := now.Sub(c.began)
	was, known := c.of[uid]
	is := was
	if !known || was.revision != revision {
		is.revision, is.rolled = revision, at
	}
	if !known || was.asked != asked {
		is.asked, is.scaled, is.fromZero = asked, at, known && was.asked == 0
	}
	if changed := is.revision != was.revision || is.asked != was.asked; !known || changed || reached > was.reached {
		is.reached, is.progressed = reached, at
	}
	if is != was || !known { // hardly ever
		c.of[uid] = is
	}
}

// tell adds what is known of a workload to facts.
func (c *courses) tell(uid string, facts *detect.Facts) {
	is, known := c.of[uid]
	if !known {
		return
	}
	facts.RolloutSince = c.began.Add(is.rolled)
	facts.ScaledSince = c.began.Add(is.scaled)
	facts.ProgressSince = c.began.Add(is.progressed)
	facts.FromZero = is.fromZero
}

func (c *courses) forget(uid string) { delete(c.of, uid) }
