package watch

import (
	"time"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// courses is how workloads have been going: when each was rolled out, scaled,
// and last came further, and where it stands. Some hundred bytes each.
type courses struct {
	began time.Time // times are kept as distances from it: they are many
	of    map[uid]course
}

type course struct {
	revision                   string
	asked                      int32 // replicas
	reached                    int32 // at most, of this revision and number
	updated, available         int32 // pods of this revision, and of all
	fromZero, still            bool  // still: it does not replace pods by itself
	rolled, scaled, progressed time.Duration
}

func newCourses(now time.Time) *courses {
	return &courses{began: now, of: map[uid]course{}}
}

// note takes in how a workload is now. One that is new to us counts as rolled
// out and scaled just now, as we cannot know better.
func (c *courses) note(id uid, w workload, now time.Time) {
	at, revision, asked, reached := now.Sub(c.began), w.revision, w.asked, w.updated
	was, known := c.of[id]
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
	is.updated, is.available, is.still = w.updated, w.available, w.still
	if is != was || !known {
		c.of[id] = is
	}
}

// tell adds what is known of a workload to facts.
func (c *courses) tell(id uid, facts *detect.Facts) {
	is, known := c.of[id]
	if !known {
		return
	}
	facts.RolloutSince = c.began.Add(is.rolled)
	facts.ScaledSince = c.began.Add(is.scaled)
	facts.ProgressSince = c.began.Add(is.progressed)
	facts.FromZero = is.fromZero
}

// A standing is what a failure of one of its pods says of a workload.
type standing struct {
	revision           string // the newest, to which it brings all pods; empty if it does not do so by itself
	updated, available int32  // pods of that revision, and those of any that serve
}

func (c *courses) standing(id uid) (standing, bool) {
	is, known := c.of[id]
	s := standing{revision: is.revision, updated: is.updated, available: is.available}
	if is.still {
		s.revision = ""
	}
	return s, known
}

func (c *courses) forget(id uid) { delete(c.of, id) }
