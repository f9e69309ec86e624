package incident

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Standing says what an announcement is, given what is remembered.
type Standing int

// The standings.
const (
	Current    Standing = iota // to be judged
	UnderWay                   // a further occurrence from before the end of a recovery
	Superseded                 // overtaken: by a newer occurrence, or by the episode's end
	Decided                    // it has its decision
)

// A Sighting is an announcement put into its place.
type Sighting struct {
	Standing Standing
	New      bool // its episode was not known
	Similar  int
	AtLeast  bool   // there may be more similar ones than were counted
	Incident string // that it belongs to
}

// Observe puts the announcement of a failure, which the stream took at
// announced, into its place. The next state counts it if it is one that
// counts, but has no decision about it yet: Decide adds that.
func (s State) Observe(f heal.Failure, announced, now time.Time, window time.Duration) (State, Sighting) {
	id := episodeID(f)
	e, known := s.episode(id)
	at := observed(f, announced)
	seen := Sighting{New: e.Last == 0}
	seen.Similar, seen.AtLeast = s.History.Within(at, window)
	if known && e.decided(f.Occurrence) {
		seen.Standing, seen.Incident = Decided, s.incidentOf(e, f)
		return s, seen
	}

	counts := false
	switch {
	case e.Resolved || f.Occurrence < e.Last:
		// It happened, though we hear of it late.
		seen.Standing, counts = Superseded, e.Counted == 0
	case e.Last == 0:
		counts = true
	case s.UnderWay(now) || !announced.After(s.Ended):
		seen.Standing = UnderWay
	default:
		counts = !s.Uncured.IsZero() && announced.After(s.Uncured)
	}
	if !counts && e.countedWithin(at, window) {
		seen.Similar-- // that is the one being judged
	}

	if e.Resolved {
		seen.Incident = s.incidentOf(e, f)
	} else {
		if e.Last == 0 && !s.joins(now, window) {
			s.Incident = Incident{ID: f.IncidentID(), Opened: now}
			s.Uncured = time.Time{}
		}
		if s.Open(now) == 0 {
			s.Began = now
		}
		s.Incident.LastActive = now
		seen.Incident = s.Incident.ID
	}
	if counts {
		s.History = s.History.Add(at, window)
		e.Counted = at.UnixMilli()
	}
	e = e.decide(f.Occurrence)
	e.Heard, e.Where, e.Rev = now.UnixMilli(), Mark(f.Node), Mark(Revision(f))
	return s.about(f).put(e, now, window), seen
}

// observed is when f was observed, by the clock of whoever did, but not after
// the stream took it.
func observed(f heal.Failure, announced time.Time) time.Time {
	if f.Timestamp.Unix() <= 0 || f.Timestamp.After(announced) {
		return announced
	}
	return f.Timestamp.Time
}

// incidentOf is the incident that a known episode belongs to.
func (s State) incidentOf(e Episode, f heal.Failure) string {
	switch {
	case e.Incident != "":
		return e.Incident
	case !e.Resolved && s.Incident.ID != "":
		return s.Incident.ID
	}
	return f.IncidentID()
}

// Decide records a decision about the announcement that the stream took at
// stored. If it acts, a recovery is under way from now on.
func (s State) Decide(d heal.Decision, stored, now time.Time, recoveryTimeout time.Duration) State {
	if d.Acts() {
		s.Recovery = Recovery{
			Decision: d.ID, Strategy: d.Strategy, Until: d.Expires.Add(recoveryTimeout + grace),
			Kind: d.Target.Kind, Episode: episodeID(d.Failure),
		}
	}
	untold := make([]Record, 0, len(s.Untold)+1)
	for _, r := range s.Untold {
		if now.Sub(r.Stored) <= untoldFor {
			untold = append(untold, r)
		}
	}
	s.Sample, s.Course = sample(d.Failure, stored), remember(s.Course, d, now)
	d.Failure = heal.Failure{}
	untold = append(untold, Record{Stored: stored, Decision: d})
	faded := slices.DeleteFunc(slices.Clone(s.Faded), func(f Faded) bool { return now.Sub(f.Stored) > untoldFor })
	s.Untold, s.Faded = untold, faded
	for len(s.Untold) > maxUntold {
		s = s.fade()
	}
	s.Faded = last(s.Faded, maxFaded)
	return s
}

// fade lets go of all but the id of the oldest decision that is not known to
// be told, but never of the one that somebody is to act upon.
func (s State) fade() State {
	i := max(0, slices.IndexFunc(s.Untold, func(r Record) bool { return r.Decision.ID != s.Recovery.Decision }))
	s.Faded = append(slices.Clone(s.Faded), Faded{Stored: s.Untold[i].Stored, Decision: s.Untold[i].Decision.ID})
	s.Untold = slices.Delete(slices.Clone(s.Untold), i, i+1)
	return s
}

// Resolve records that an episode is over. It reports false if that is known.
func (s State) Resolve(f heal.Failure, now time.Time, window time.Duration) (State, bool) {
	e, _ := s.episode(episodeID(f))
	if e.Resolved {
		return s, false
	}
	if e.Last > 0 {
		e.Incident = s.Incident.ID
		s.Incident.LastActive = now
	}
	e.Resolved, e.Heard = true, now.UnixMilli()
	return s.about(f).put(e, now, window).settle(now), true
}

// about says what the state is about, for people and for what follows from it.
func (s State) about(f heal.Failure) State {
	s.Type, s.Fingerprint = f.Type, heal.Clean(f.Fingerprint, maxText)
	s.Reason, s.Object = heal.Clean(f.Reason, 64), f.Affected().String()
	return s
}

// End records the result of a recovery, which the stream took at stored. It
// reports false for a result that nobody awaits.
func (s State) End(r heal.Result, stored, now time.Time) (State, bool) {
	if s.Recovery.Decision == "" || s.Recovery.Decision != r.Decision.ID {
		return s, false
	}
	s.Last = Ending{Decision: r.Decision.ID, Episode: s.Recovery.Episode, Outcome: r.Outcome, Reason: heal.Clean(r.Reason, 64), Incident: s.Incident.ID}
	s.Recovery = Recovery{}
	s.Ended = stored
	s.Course = ended(s.Course, r, stored)
	switch r.Outcome {
	case heal.Succeeded:
		s.Failed, s.Uncured = 0, time.Time{}
	case heal.Failed, heal.TimedOut:
		if stored.Sub(s.LastFailed) > memory {
			s.Failed = 0
		}
		s.Failed++
		s.LastFailed, s.Uncured = stored, stored
	}
	return s.settle(now), true
}

// A Record is a decision that is made, and not known to be told. It is kept
// without its failure, which whoever tells it has at hand.
type Record struct {
	Stored   time.Time     `json:"stored"` // when the stream took the announcement
	Decision heal.Decision `json:"decision"`
}

// MarshalJSON leaves the failure out.
func (r Record) MarshalJSON() ([]byte, error) {
	type decision struct {
		heal.Decision
		Failure *struct{} `json:"failure,omitempty"` // hides the embedded one's
	}
	return json.Marshal(struct {
		Stored   time.Time `json:"stored"`
		Decision decision  `json:"decision"`
	}{r.Stored, decision{Decision: r.Decision}})
}

// A Faded record is one that more were made after than are kept in full.
type Faded struct {
	Stored   time.Time `json:"stored"`
	Decision string    `json:"decision"` // its id
}

// A Recall says what is known of a decision that was made before.
type Recall int

// The recalls.
const (
	Told       Recall = iota // nothing is left to do: it was told, or whoever holds the first copy of the announcement will
	Remembered               // it is to be told, as it was made
	Forgotten                // it is to be told, but only that it did not act is known
)

// Recall finds the decision about an announcement that was decided, for
// whoever holds the message that the stream took at stored. The decision is
// whole only if it is Remembered.
func (s State) Recall(f heal.Failure, stored time.Time) (heal.Decision, Recall) {
	id := heal.MakeDecisionID(f)
	for _, r := range s.Untold {
		if r.Decision.ID == id && r.Stored.Equal(stored) {
			d := r.Decision
			d.Failure = f
			return d, Remembered
		}
	}
	for _, r := range s.Faded {
		if r.Decision == id && r.Stored.Equal(stored) {
			return heal.Decision{}, Forgotten
		}
	}
	return heal.Decision{}, Told
}

// Tell returns the state without the records of decisions that were told.
func (s State) Tell(decisions []string) State {
	if len(decisions) > 0 {
		s.Untold = slices.DeleteFunc(slices.Clone(s.Untold), func(r Record) bool { return slices.Contains(decisions, r.Decision.ID) })
		s.Faded = slices.DeleteFunc(slices.Clone(s.Faded), func(r Faded) bool { return slices.Contains(decisions, r.Decision) })
	}
	return s
}
