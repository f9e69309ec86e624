// Package incident remembers what the analyzer must know of the past: for
// each fingerprint its incident, its episodes, the failures that count as
// similar, the recovery under way, the tries that failed, and the decisions
// that may not have been told yet.
//
// A State is a value, and everything here is pure: methods return the next
// State and leave the one that they were called on as it was. Package book
// keeps States in a bucket that any number of analyzers share.
//
// It promises that an announcement is decided once: a state holds the decision
// before the decision is told, and states are written by compare-and-set, so
// of several analyzers, or several deliveries, one decides, and the others
// find what it decided. And it promises to be bounded, whatever is announced.
package incident

import (
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// The bounds of a State. With them it stays below the bucket's 256 KiB.
const (
	maxEpisodes = 640
	maxResolved = 256
	maxUntold   = 16  // as many as an analyzer has in hand
	maxFaded    = 256 // what several killed in a row leave behind
	maxText     = 512 // of the fingerprint, which is kept for people
	maxCourse   = 8
	maxSamples  = 4    // in a group
	maxSample   = 4096 // bytes of texts in one
	maxEvidence = 6    // in one
)

const (
	// memory is how long tries that failed, and episodes that were never
	// resolved but are announced no more, are remembered. A failure that lasts
	// is announced at least every recovery_timeout.
	memory = 6 * time.Hour
	// untoldFor is as long as an announcement can come again: it stays in its
	// stream for 7 days.
	untoldFor = 7 * 24 * time.Hour
	// grace is how long after its latest end a recovery's result is awaited.
	grace = time.Minute
)

// A State is all that is remembered about one type and fingerprint. The zero
// value remembers nothing.
type State struct {
	Type        heal.FailureType `json:"type"`
	Fingerprint string           `json:"fingerprint"`      // clipped
	Reason      string           `json:"reason,omitempty"` // of the last announcement, clipped
	Object      string           `json:"object,omitempty"` // the owner, or what itself fails, of the last announcement
	Began       time.Time        `json:"began,omitzero"`   // when the first episode of the incident was decided
	Incident    Incident         `json:"incident"`
	History     History          `json:"history"`
	Episodes    []Episode        `json:"episodes"`          // least recently heard of first
	Recovery    Recovery         `json:"recovery,omitzero"` // the last decision that acts, until its result
	Ended       time.Time        `json:"ended,omitzero"`    // when the stream took the last recovery's result
	Uncured     time.Time        `json:"uncured,omitzero"`  // the same, of a try that did not help; zero once one did, or nothing is left to cure
	Failed      int              `json:"failed,omitempty"`  // tries in a row that did not help
	LastFailed  time.Time        `json:"last_failed,omitzero"`
	Last        Ending           `json:"last,omitzero"`    // of the last recovery
	Untold      []Record         `json:"untold,omitempty"` // oldest first
	Faded       []Faded          `json:"faded,omitempty"`  // oldest first
	Sample      *Sample          `json:"sample,omitempty"` // the last announcement; nil if there was no room for it
	Course      []heal.Deed      `json:"course,omitempty"` // what was decided of late, oldest first
}

// A Sample is an announcement, to answer questions by, and to judge again what
// waited and is to wait no more.
type Sample struct {
	Stored  time.Time    `json:"stored"`
	Failure heal.Failure `json:"failure"` // clipped
}

// An Incident is one trouble from its first sign until all of it is gone.
type Incident struct {
	ID         string    `json:"id"`
	Opened     time.Time `json:"opened"`
	LastActive time.Time `json:"last_active"`
	Closed     bool      `json:"closed,omitempty"`
}

// A Recovery is a decision that acts and whose result is awaited.
type Recovery struct {
	Decision string        `json:"decision"`
	Strategy heal.Strategy `json:"strategy"`
	Until    time.Time     `json:"until"`             // nobody waits longer for its result
	Kind     string        `json:"kind,omitempty"`    // of what it changes
	Episode  string        `json:"episode,omitempty"` // that it was decided for
}

// An Ending is how a recovery ended.
type Ending struct {
	Decision string       `json:"decision"`
	Episode  string       `json:"episode,omitempty"`
	Outcome  heal.Outcome `json:"outcome"`
	Reason   string       `json:"reason,omitempty"`
	Incident string       `json:"incident,omitempty"`
}

// Key is where the state about f is kept.
func Key(f heal.Failure) string { return heal.ID("k", string(f.Type), f.Fingerprint) }

// UnderWay reports whether a recovery is under way.
func (s State) UnderWay(now time.Time) bool {
	return s.Recovery.Decision != "" && now.Before(s.Recovery.Until)
}

// Open is how many episodes are going on.
func (s State) Open(now time.Time) int {
	n := 0
	for _, e := range s.Episodes {
		if e.open(now) {
			n++
		}
	}
	return n
}

// Forgettable reports whether nothing is lost if the state is.
func (s State) Forgettable(now time.Time, window time.Duration) bool {
	quiet := func(t time.Time) bool { return now.Sub(t) > max(memory, window) }
	return len(s.Untold) == 0 && len(s.Faded) == 0 &&
		quiet(s.Incident.LastActive) && quiet(s.Ended) && quiet(s.LastFailed) && quiet(s.Recovery.Until) &&
		!slices.ContainsFunc(s.Episodes, func(e Episode) bool { return !quiet(e.heard()) })
}

// joins reports whether a new episode belongs to the last incident.
func (s State) joins(now time.Time, window time.Duration) bool {
	return s.Incident.ID != "" && !s.Incident.Closed &&
		(s.Open(now) > 0 || s.UnderWay(now) || now.Sub(s.Incident.LastActive) < window)
}

// settle closes the incident when nothing of it is left. Nothing is left to
// cure then, so that a later incident starts afresh. After a try that did not
// help it stays open, for what fails next in place of what was replaced.
func (s State) settle(now time.Time) State {
	if s.Open(now) == 0 && !s.UnderWay(now) && s.Failed == 0 {
		s.Incident.Closed = true
		s.Uncured = time.Time{}
	}
	return s
}
