package record

import (
	"cmp"
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A State says where an incident stands.
type State string

// The states of an incident.
const (
	Open      State = "open"      // it fails, and nothing is being done
	Waiting   State = "waiting"   // a decision waits for a person
	Acting    State = "acting"    // a decision is being carried out
	GivenUp   State = "given_up"  // several tries did not help: a person must look
	Healed    State = "healed"    // we did something, and it was seen to have helped
	Recovered State = "recovered" // it went away by itself
)

// States is every state.
var States = []State{Open, Waiting, Acting, GivenUp, Healed, Recovered}

// Over reports whether nothing more is to be done.
func (s State) Over() bool { return s == Healed || s == Recovered }

// pending is how long a decision without a result is believed to be under way:
// the longest that one may wait for a person, and as long again to act.
const pending = 30 * time.Minute

// An Incident is all that belongs to one trouble.
type Incident struct {
	ID         string           `json:"incident_id"`
	State      State            `json:"state"`
	Type       heal.FailureType `json:"type"`
	Severity   heal.Severity    `json:"severity"`
	Reason     string           `json:"reason"`                // of the first failure
	Cause      heal.CauseKind   `json:"cause"`                 // as last decided
	Object     heal.Target      `json:"object"`                // what is affected: the owner of what failed first
	Opened     time.Time        `json:"opened"`                // when the first failure was first seen
	Changed    time.Time        `json:"changed"`               // when it was last heard of
	Failures   int              `json:"failures"`              // episodes, of all objects
	Failing    int              `json:"failing"`               // of those, not over
	Decisions  int              `json:"decisions"`             //
	Tries      int              `json:"tries"`                 // decisions that asked for a change and have a result
	Strategy   heal.Strategy    `json:"strategy,omitempty"`    // as last decided
	DecisionID string           `json:"decision_id,omitempty"` // the last one that asks for a change, else the last one
	Outcome    heal.Outcome     `json:"outcome,omitempty"`     // of that decision
	Message    string           `json:"message"`               // how it stands, for people
}

// A gathering is what belongs to an incident, in the order of its times.
type gathering struct {
	failures  []*episode
	decisions []heal.Event[heal.Decision]
}

// incidents puts together what belongs together.
func incidents(r Record, episodes map[string]*episode, now time.Time) []Incident {
	all := map[string]*gathering{}
	of := func(id string) *gathering {
		if all[id] == nil {
			all[id] = &gathering{}
		}
		return all[id]
	}
	counted := map[string]string{} // episode to the incident that the analyzer counted it to
	for _, d := range r.Decisions {
		of(d.Data.IncidentID).decisions = append(of(d.Data.IncidentID).decisions, d)
		counted[d.Data.Failure.EpisodeID] = d.Data.IncidentID
	}
	for _, f := range r.Failures {
		id := cmp.Or(counted[f.Data.EpisodeID], f.Data.IncidentID())
		of(id).failures = append(of(id).failures, episodes[f.Data.EpisodeID])
	}
	var list []Incident
	for id, g := range all {
		list = append(list, g.incident(id, r, now))
	}
	slices.SortFunc(list, func(a, b Incident) int { return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.ID, b.ID)) })
	return list
}

// first is what the incident began with, as far as that is known.
func (g *gathering) first() heal.Failure {
	var first heal.Failure
	older := func(f heal.Failure) {
		if first.EpisodeID == "" || f.FirstSeen.Before(first.FirstSeen) {
			first = f
		}
	}
	for _, d := range g.decisions {
		older(d.Data.Failure)
	}
	for _, e := range g.failures {
		older(e.last.Data)
	}
	return first
}

func (g *gathering) incident(id string, r Record, now time.Time) Incident {
	f := g.first()
	i := Incident{
		ID: id, Type: f.Type, Severity: f.Severity, Reason: f.Reason, Cause: heal.CauseUnknown, Object: f.Affected(),
		Opened: f.FirstSeen, Changed: f.Timestamp.Time, Failures: len(g.failures), Decisions: len(g.decisions), Message: f.Description,
	}
	heard := func(t time.Time) {
		if t.After(i.Changed) {
			i.Changed = t
		}
	}
	var seen time.Time // when it was last seen to fail
	for _, e := range g.failures {
		at := e.last.Data.Timestamp.Time
		if e.last.Data.Resolved() {
			at = e.last.Data.ResolvedAt
		} else {
			i.Failing++
			if at.After(seen) {
				seen = at
			}
		}
		heard(at)
	}
	var last, acting *heal.Event[heal.Decision]
	for n := range g.decisions {
		d := &g.decisions[n]
		last = d
		heard(d.Time)
		if d.Data.Acts() {
			acting = d
			if r.ResultOf(d.Data.ID) != nil {
				i.Tries++
			}
		}
	}
	i.State = Open
	if i.Failing == 0 && len(g.failures) > 0 {
		i.State = Recovered
		i.Message = f.Reason + " is no longer seen"
	}
	if last == nil {
		return i
	}
	i.Severity, i.Cause, i.Strategy, i.DecisionID = last.Data.Severity, last.Data.Cause.Kind, last.Data.Strategy, last.Data.ID
	if i.State == Open && last.Data.Explanation.Summary != "" {
		i.Message = last.Data.Explanation.Summary
	}
	if i.State == Open && last.Data.Reason == heal.ReasonGivenUp {
		i.State = GivenUp
	}
	if acting == nil {
		return i
	}
	i.Strategy, i.DecisionID = acting.Data.Strategy, acting.Data.ID
	result, answer := r.ResultOf(acting.Data.ID), r.AnswerTo(acting.Data.ID)
	switch {
	case result != nil:
		i.Outcome = result.Outcome
		ended := result.StartedAt.Add(time.Duration(result.Duration * float64(time.Second)))
		heard(ended)
		if result.Outcome == heal.Succeeded && !seen.After(ended) {
			i.State = Healed
		}
		if i.State == Healed || i.State == Open {
			i.Message = result.Message
		}
	case i.State == Recovered, now.Sub(acting.Time) > pending:
	case acting.Data.Mode == heal.ModeApprove && answer == nil:
		i.State = Waiting
		i.Message = "waits for a person to approve " + acting.Data.ID
	default:
		i.State = Acting
		i.Message = acting.Data.Explanation.Summary
	}
	return i
}
