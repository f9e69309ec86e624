// Package record makes of the messages that streams hold what people ask for:
// failures, decisions, results and incidents, and what waits for a person. All
// of it is pure; a message that cannot be read is counted, and otherwise passed
// over.
package record

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// A Record is what happened, each list in the order of its times.
type Record struct {
	Failures  []heal.Event[heal.Failure] // the last announcement of each episode
	Decisions []heal.Event[heal.Decision]
	Results   []heal.Event[heal.Result]
	Approvals []heal.Event[heal.Approval]
	Controls  []heal.Event[heal.Control]
	Letters   []Letter
	Incidents []Incident
	Unread    int // messages that cannot be read

	results map[string]*heal.Result
	answers map[string]*heal.Approval
}

// A Letter is a dead letter and its number, by which it is named.
type Letter struct {
	Sequence uint64    `json:"sequence"`
	Stored   time.Time `json:"stored"`
	heal.Event[heal.DeadLetter]
}

// ResultOf is the result of a decision, or nil.
func (r Record) ResultOf(decision string) *heal.Result { return r.results[decision] }

// AnswerTo is what a person first said to a decision, or nil.
func (r Record) AnswerTo(decision string) *heal.Approval { return r.answers[decision] }

// A Folder takes messages in any order, some of them perhaps twice. The zero
// value is ready for use by one goroutine.
type Folder struct {
	failures  map[string]*episode // by episode
	decisions map[string]heal.Event[heal.Decision]
	results   map[string]heal.Event[heal.Result]   // by decision
	approvals map[string]heal.Event[heal.Approval] // by event
	controls  map[string]heal.Event[heal.Control]  // by event
	letters   map[uint64]Letter
	unread    int
}

// An episode is what is known of one failure from first seen to gone.
type episode struct {
	last  heal.Event[heal.Failure]
	times int // announcements that are known
}

// Add takes a message.
func (f *Folder) Add(raw bus.Raw) {
	if f.failures == nil {
		*f = Folder{
			failures: map[string]*episode{}, decisions: map[string]heal.Event[heal.Decision]{}, results: map[string]heal.Event[heal.Result]{},
			approvals: map[string]heal.Event[heal.Approval]{}, controls: map[string]heal.Event[heal.Control]{}, letters: map[uint64]Letter{},
		}
	}
	switch TypeOf(raw) {
	case heal.TypeFailureDetected, heal.TypeFailureResolved:
		read(f, raw, f.failure)
	case heal.TypeDecisionMade:
		read(f, raw, func(e heal.Event[heal.Decision]) { f.decisions[e.Data.ID] = e })
	case heal.TypeActionCompleted:
		read(f, raw, func(e heal.Event[heal.Result]) { f.results[e.Data.Decision.ID] = e })
	case heal.TypeApprovalGiven:
		read(f, raw, func(e heal.Event[heal.Approval]) { f.approvals[e.ID] = e })
	case heal.TypeControlChanged:
		read(f, raw, func(e heal.Event[heal.Control]) { f.controls[e.ID] = e })
	case heal.TypeMessageDead:
		read(f, raw, func(e heal.Event[heal.DeadLetter]) {
			f.letters[raw.Seq] = Letter{Sequence: raw.Seq, Stored: raw.Time, Event: e}
		})
	case heal.TypeNotificationRequested: // tells of a result, which is known
	default:
		f.unread++
	}
}

// TypeOf is the CloudEvents type of a message, or empty if it has none.
func TypeOf(raw bus.Raw) string {
	var head struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(raw.Data, &head) != nil {
		return ""
	}
	return head.Type
}

func read[T heal.Payload](f *Folder, raw bus.Raw, take func(heal.Event[T])) {
	e, err := heal.Decode[T](raw.Data)
	if err != nil {
		f.unread++
		return
	}
	take(e)
}

func (f *Folder) failure(e heal.Event[heal.Failure]) {
	e.Data.Envelope = heal.Envelope{ID: e.ID, Incident: e.CorrelationID}
	known := f.failures[e.Data.EpisodeID]
	if known == nil {
		known = &episode{last: e}
		f.failures[e.Data.EpisodeID] = known
	}
	if !e.Data.Resolved() {
		known.times++
	}
	old := known.last.Data
	if e.Data.Resolved() || !old.Resolved() && e.Data.Occurrence > old.Occurrence {
		known.last = e
	}
}

// Record is what came of the messages so far, as it looks at now.
func (f *Folder) Record(now time.Time) Record {
	r := Record{
		Decisions: sorted(f.decisions), Results: sorted(f.results), Approvals: sorted(f.approvals), Controls: sorted(f.controls),
		Letters: slices.SortedFunc(maps.Values(f.letters), func(a, b Letter) int { return cmp.Compare(a.Sequence, b.Sequence) }),
		Unread:  f.unread,
		results: map[string]*heal.Result{}, answers: map[string]*heal.Approval{},
	}
	last := map[string]heal.Event[heal.Failure]{}
	for id, e := range f.failures {
		last[id] = e.last
	}
	r.Failures = sorted(last)
	for id, e := range f.results {
		r.results[id] = &e.Data
	}
	for _, e := range r.Approvals {
		if r.answers[e.Data.DecisionID] == nil {
			r.answers[e.Data.DecisionID] = &e.Data
		}
	}
	r.Incidents = incidents(r, f.failures, now)
	return r
}

// sorted are the events by time, those of one time by id.
func sorted[T heal.Payload](all map[string]heal.Event[T]) []heal.Event[T] {
	return slices.SortedFunc(maps.Values(all), func(a, b heal.Event[T]) int {
		return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.ID, b.ID))
	})
}
