package incident

import (
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Beside is the key of the board on which those stand that may wait for what f
// is about; empty if nobody does.
func Beside(f heal.Failure) string {
	if f.Type != heal.ServiceFailure {
		return ""
	}
	return namespaceBoard(f.Affected().Namespace)
}

// Fails reports whether anything about the object is going on.
func (b Board) Fails(object string, now time.Time) bool {
	return slices.ContainsFunc(b.Going(now), func(e Entry) bool { return e.Object == object })
}

// Waiters are the keys of the groups whose pods fail: those that may wait for
// something else on the board, the one that failed first standing first.
func (b Board) Waiters(now time.Time) []string {
	going := b.Going(now)
	slices.SortStableFunc(going, func(a, b Entry) int { return int(a.First - b.First) })
	var keys []string
	for _, e := range going {
		part := strings.SplitN(e.Object, "/", 3)
		if e.Type != heal.PodFailure || len(part) != 3 {
			continue
		}
		if key := ObjectKey(part[0], part[1], part[2]); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

// Wake is what the group is to be judged by when a dependency that it waits for
// is back, as the stream was told at stored: the failure that was announced
// last, as its next occurrence. It has one decision as any other, so that its
// announcement brings no second one. The same word gives the same occurrence,
// for whoever did not get to tell what was decided.
func (g Group) Wake(dependency string, stored, now time.Time) (heal.Failure, bool) {
	all := g.Of("", now)
	for _, s := range all {
		if s.Sample != nil && s.Sample.Stored.Equal(stored) {
			return s.Sample.Failure, true
		}
	}
	if g.Waits.For != dependency {
		return heal.Failure{}, false
	}
	for _, s := range all {
		if s.Type != heal.PodFailure || s.Sample == nil {
			continue
		}
		f := s.Sample.Failure
		e, known := s.episode(episodeID(f))
		if !known || !e.open(now) {
			continue
		}
		f.Occurrence, f.Timestamp = e.Last+1, heal.Unix{Time: stored}
		return f, true
	}
	return heal.Failure{}, false
}
