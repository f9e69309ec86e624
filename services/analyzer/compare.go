package analyzer

import (
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Comparison is what two policies make of the same record.
type Comparison struct {
	From        time.Time    `json:"from,omitzero"`
	To          time.Time    `json:"to,omitzero"`
	Failures    int          `json:"failures"` // announcements that were judged
	Results     int          `json:"results"`  // of recoveries, that were recorded
	Before      Tally        `json:"before"`
	After       Tally        `json:"after"`
	Different   int          `json:"different"`   // decisions
	Differences []Difference `json:"differences"` // the first of them
}

// A Tally counts the decisions of one policy.
type Tally struct {
	Policy     heal.PolicyRef        `json:"policy"`
	Acting     int                   `json:"acting"`
	Strategies map[heal.Strategy]int `json:"strategies"`
	Reasons    map[string]int        `json:"reasons"`
}

// A Difference is an announcement that two policies decide differently.
type Difference struct {
	At         time.Time `json:"at"`
	DecisionID string    `json:"decision_id"`
	Failure    string    `json:"failure"` // shop/Pod/checkout-x2kpl
	Reason     string    `json:"reason"`  // of the failure
	Occurrence int       `json:"occurrence"`
	Before     Outline   `json:"before"`
	After      Outline   `json:"after"`
	Why        []string  `json:"why"` // the steps of the second that the first does not have
}

// An Outline is what matters of a decision.
type Outline struct {
	Strategy heal.Strategy `json:"strategy"`
	Severity heal.Severity `json:"severity"`
	Mode     heal.Mode     `json:"mode"`
	Reason   string        `json:"reason"`
	Rule     string        `json:"rule"`
	Target   string        `json:"target"`
	Acts     bool          `json:"acts"`
}

func outline(d heal.Decision) Outline {
	return Outline{d.Strategy, d.Severity, d.Mode, d.Reason, d.Policy.Rule, d.Target.String(), d.Acts()}
}

// Same reports whether both decide the same, whichever rule says so.
func (o Outline) Same(other Outline) bool {
	o.Rule, other.Rule = "", ""
	return o == other
}

// Compare replays a record, which must be in order of time, for two
// configurations. At most keep differences are kept; all are counted.
func Compare(before, after ReplayConfig, records []Recorded, keep int) Comparison {
	c := Comparison{Before: newTally(before), After: newTally(after), Differences: []Difference{}}
	one, two := NewReplay(before), NewReplay(after)
	for _, m := range records {
		if c.From.IsZero() {
			c.From = m.At
		}
		c.To = m.At
		if m.Result != nil && m.Result.Decision.Acts() {
			c.Results++
		}
		a, judged := one.Take(m)
		b, _ := two.Take(m)
		if !judged {
			continue
		}
		c.Failures++
		c.Before.count(a)
		c.After.count(b)
		if outline(a).Same(outline(b)) {
			continue
		}
		if c.Different++; len(c.Differences) < keep {
			c.Differences = append(c.Differences, difference(m.At, a, b))
		}
	}
	return c
}

func newTally(c ReplayConfig) Tally {
	return Tally{Policy: c.Policy.Ref(""), Strategies: map[heal.Strategy]int{}, Reasons: map[string]int{}}
}

func (t *Tally) count(d heal.Decision) {
	t.Strategies[d.Strategy]++
	t.Reasons[d.Reason]++
	if d.Acts() {
		t.Acting++
	}
}

func difference(at time.Time, a, b heal.Decision) Difference {
	d := Difference{
		At: at.UTC(), DecisionID: b.ID, Failure: b.Failure.Target.String(), Reason: heal.Clean(b.Failure.Reason, 64), Occurrence: b.Failure.Occurrence,
		Before: outline(a), After: outline(b),
	}
	for _, step := range b.Explanation.Steps {
		if !slices.Contains(a.Explanation.Steps, step) {
			d.Why = append(d.Why, step)
		}
	}
	if len(d.Why) == 0 { // the first refused it for something that the second does not have
		d.Why = []string{b.Explanation.Summary}
	}
	return d
}
