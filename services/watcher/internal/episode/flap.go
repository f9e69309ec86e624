package episode

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

const (
	// flapping is how often a failure must have ended within flapWindow to be
	// flapping when it begins again. No calm has meant much then, and the next
	// may mean as little.
	flapping   = 3
	flapWindow = time.Hour

	// maxEnds bounds what a record remembers. Beyond it the number says enough.
	maxEnds = 16
)

// Rest is what stays of r in the store when its episode has ended: a record of
// no episode, which only says when the last ones did. That is how a failure
// that begins again and again is told, by whichever watcher, and after a restart.
func (r Record) Rest() Record {
	ends := append(recent(r.Ends, r.ResolvedAt), r.ResolvedAt)
	return Record{Key: r.Key, Ends: ends[max(0, len(ends)-maxEnds):]}
}

// Resting reports whether r is such a record.
func (r Record) Resting() bool { return r.FirstSeen.IsZero() }

// Stale reports whether a resting record tells of nothing any more that matters.
func (r Record) Stale(now time.Time) bool { return r.Resting() && len(recent(r.Ends, now)) == 0 }

// After makes r, which is not stored yet, an episode that begins after those
// that rest tells of.
func (r Record) After(rest Record) Record {
	r.Ends = rest.Ends
	r.Failure = r.mark(r.Failure, r.Opened)
	return r
}

// mark says in f how often the same has ended of late, if that was often.
func (r Record) mark(f heal.Failure, now time.Time) heal.Failure {
	n := len(recent(r.Ends, now))
	if n < flapping {
		return f
	}
	f.Metadata = maps.Clone(f.Metadata)
	if f.Metadata == nil {
		f.Metadata = map[string]string{}
	}
	f.Metadata[heal.MetadataFlapping] = strconv.Itoa(n)
	return f
}

// recent is a copy of those of ends that lie in the window before now.
func recent(ends []time.Time, now time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(ends), func(at time.Time) bool { return now.Sub(at) >= flapWindow })
}
