// Package episode follows each failure from first seen to gone: it waits out
// the hold, says when to announce it and when to announce it again, and sees
// to it that a moment of calm is not taken for the end.
//
// It is a pure state machine: no clock (now is a parameter), no client, no
// store. What it says depends only on what it was told, so that two watchers,
// or one before and after a restart, say the same. A Book is not safe for
// concurrent use.
package episode

import (
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Key names one thing that can be wrong with one object.
type Key struct {
	UID      string `json:"uid"` // of the object, or more than that where several look at it who know nothing of each other
	Detector string `json:"detector"`
	Part     string `json:"part,omitempty"`
}

// ID is the key under which the episode's record is stored.
func (k Key) ID() string { return heal.ID("k", k.UID, k.Detector, k.Part) }

// A State is how one part of an object was seen to be.
type State int

// The states. Unclear is a container between two crashes: not failing at this
// moment, and not seen to work either. Excused is a failure that does not
// count while it is so.
const (
	Unclear State = iota
	Failing
	Excused
	Well
)

// A Sighting is what was seen of one part of an object.
type Sighting struct {
	Key     Key
	State   State
	Hold    time.Duration // Failing and Excused: how long it must last before it counts
	Clear   time.Duration // Well: how long it must be so before the failure is over
	Failure heal.Failure  // Failing: what it looks like now; the Book adds what makes it an occurrence
}

// A Record is what all watchers share about an open episode.
type Record struct {
	Key        Key          `json:"key"`
	FirstSeen  time.Time    `json:"first_seen"`           // by the watcher that opened it; makes the episode's id
	Opened     time.Time    `json:"opened"`               // when occurrence 1 was due; all others follow from it
	Announced  int          `json:"announced"`            // the last occurrence known to be published; 0 before the first
	ResolvedAt time.Time    `json:"resolved_at,omitzero"` // set before the end is published
	Ends       []time.Time  `json:"ends,omitempty"`       // of episodes of the same key before this one, oldest first
	Failure    heal.Failure `json:"failure"`              // as last announced
}

// End is the message that says the episode is over.
func (r Record) End() heal.Failure {
	f := r.Failure
	f.ResolvedAt = r.ResolvedAt
	f.Timestamp = heal.Unix{Time: r.ResolvedAt}
	return f
}

// A Schedule says when a failure that lasts is announced again: after First,
// then after twice as long each time, up to Limit.
type Schedule struct {
	First time.Duration
	Limit time.Duration
}

// At is the occurrence that is current age after the first was due, and the
// age at which the next one is. Occurrences that nobody was there to announce
// are passed over, not made up for.
func (s Schedule) At(age time.Duration) (occurrence int, next time.Duration) {
	step, limit := s.First, max(s.First, s.Limit)
	occurrence, next = 1, step
	for next <= age && step < limit {
		occurrence++
		step = min(2*step, limit)
		next += step
	}
	if next <= age { // at the limit the steps are equal; an old episode has many
		n := (age-next)/limit + 1
		occurrence += int(n)
		next += n * limit
	}
	return occurrence, next
}

// moment is how a time is stored and made part of an id: without the
// monotonic clock, and as JSON keeps it.
func moment(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }
