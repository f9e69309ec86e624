package analyzer

import (
	"fmt"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/cause"
	"github.com/selfheal/selfheal/services/analyzer/internal/guard"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// decisionTTL is how long a decision may be carried out. What still lasts then
// was announced again, and is judged again.
const decisionTTL = 5 * time.Minute

// Reasons of decisions that nothing else in this module gives.
const (
	reasonSuperseded  = "Superseded"  // overtaken: by a newer announcement, or by the failure's end
	reasonModeObserve = "ModeObserve" // nothing is carried out in this mode
)

// A judge is all that a judgement depends on besides its occasion. It is pure.
type judge struct {
	policy          policy.Policy
	mode            heal.Mode
	recoveryTimeout time.Duration
	protected       []string
}

// An occasion is the announcement of a failure that is to be judged.
type occasion struct {
	failure   heal.Failure
	announced time.Time   // when the stream took it
	now       time.Time   // when it is judged
	acted     []time.Time // when this analyzer decided to act, in the last minute
}

// A judgement is what became of an occasion.
type judgement struct {
	decision heal.Decision
	fresh    bool // made just now, not found
	tell     bool // to be published; false for one that was, or that somebody else is to
	episode  bool // the first about its episode
}

// decide returns the decision about an announcement: the one that s remembers,
// or else one made now, with the state that remembers it.
func (j judge) decide(s incident.State, o occasion) (incident.State, judgement) {
	f, window := o.failure, j.policy.Window()
	s, seen := s.Observe(f, o.announced, o.now, window)
	again := seen.Standing == incident.Decided
	if again {
		d, recall := s.Recall(f, o.announced)
		if recall != incident.Forgotten {
			return s, judgement{decision: d, tell: recall == incident.Remembered}
		}
	}

	why := cause.Find(cause.Facts{Failure: f, State: s, Now: o.now})
	base, severity := j.policy.Severity(f.Type, seen.Similar)
	table, rule := j.policy.Strategy(f.Type, severity)
	choice, held := policy.Choice{Strategy: heal.Monitor}, ""
	switch seen.Standing {
	case incident.UnderWay:
		choice.Reason, held = heal.ReasonRecoveryUnderWay, underWay(s, o.now)
	case incident.Superseded:
		choice.Reason, held = reasonSuperseded, "a newer announcement of it, or its end, came before this one"
	case incident.Decided:
		choice.Reason, held = reasonSuperseded, "many others came before this one could be told"
	default:
		choice = policy.Refine(policy.Case{Failure: f, Severity: severity, Similar: seen.Similar, Cause: why}, table)
	}

	d := heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: seen.Incident, Type: f.Type,
		Severity: severity, BaseSeverity: base, SimilarFailures: seen.Similar,
		Strategy: choice.Strategy, ActionType: f.Type.ActionType(), Mode: j.mode, Reason: choice.Reason,
		Expires: o.now.Add(decisionTTL).UTC(), Target: f.Target, Parameters: map[string]string{},
		Cause: why, Policy: j.policy.Ref(rule), Failure: f,
		Guards: guard.Judge(guard.Input{
			Failure: f, Strategy: choice.Strategy, State: s, Announced: o.announced, Now: o.now,
			Acted: o.acted, Protected: j.protected, Limits: j.policy.Guards(),
		}),
	}
	d.Reason = j.reason(d)
	d.Explanation = policy.Explain(policy.Account{
		Decision: d, Window: window, AtLeast: seen.AtLeast, Held: held, Table: table, Refined: choice.Steps,
	})
	if again {
		return s, judgement{decision: d, tell: true}
	}
	return s.Decide(d, o.announced, o.now, j.recoveryTimeout), judgement{decision: d, fresh: true, tell: true, episode: seen.New}
}

// reason is why d is as it is, or else why it is not carried out.
func (j judge) reason(d heal.Decision) string {
	if d.Strategy == heal.Monitor {
		return d.Reason
	}
	for _, v := range d.Guards {
		if !v.Allowed {
			return v.Reason
		}
	}
	if j.mode == heal.ModeObserve {
		return reasonModeObserve
	}
	return d.Reason
}

func underWay(s incident.State, now time.Time) string {
	if !s.UnderWay(now) {
		return "it was announced before the last recovery ended"
	}
	return fmt.Sprintf("a recovery is under way (%s by decision %s)", s.Recovery.Strategy, s.Recovery.Decision)
}
