package episode

import (
	"cmp"
	"container/heap"
	"iter"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Suspect is what no record tells of yet: something may be wrong with an
// object, but it has not been so for long enough.
type Suspect struct {
	Key    Key         `json:"key"`
	Target heal.Target `json:"target"`
	Since  time.Time   `json:"since,omitzero"` // first seen; zero while it does not count
}

// Compare orders suspects by their keys.
func (s Suspect) Compare(o Suspect) int {
	return cmp.Or(cmp.Compare(s.Key.UID, o.Key.UID), cmp.Compare(s.Key.Detector, o.Key.Detector), cmp.Compare(s.Key.Part, o.Key.Part))
}

// Suspects is everything that the book holds and the store does not.
func (b *Book) Suspects() iter.Seq[Suspect] {
	return func(yield func(Suspect) bool) {
		for key, e := range b.entries {
			if e.record != nil || e.gone {
				continue
			}
			s := Suspect{Key: key, Target: e.target}
			if !e.since.IsZero() {
				s.Since = moment(e.since)
			}
			if !yield(s) {
				return
			}
		}
	}
}

// Suspect takes in what another process suspected. Its object is looked at
// after delay; if it is failing then, it has been since it was first seen.
func (b *Book) Suspect(now time.Time, s Suspect, delay time.Duration) {
	if b.entries[s.Key] != nil || len(b.entries) >= b.cfg.Max {
		return
	}
	e := b.add(&entry{key: s.Key, target: s.Target, state: Unclear, since: s.Since})
	if e.since.After(now) { // by another clock
		e.since = now
	}
	e.due = now.Add(delay)
	heap.Fix(&b.queue, e.index)
}

// Follows reports whether the book holds anything of an object.
func (b *Book) Follows(uid []byte) bool {
	_, follows := b.objects[string(uid)]
	return follows
}

// Target is the object that key is about; false if the book does not hold it.
func (b *Book) Target(key Key) (heal.Target, bool) {
	e := b.entries[key]
	if e == nil {
		return heal.Target{}, false
	}
	return e.target, true
}
