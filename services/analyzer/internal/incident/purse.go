package incident

import (
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Purse is what was spent of the budget of one rule of the policy. Like a
// State it is a value. A decision spends once, however often it is made.
type Purse struct {
	Spent []Expense `json:"spent"` // oldest first
}

// An Expense is a decision that acts.
type Expense struct {
	Decision string    `json:"decision"`
	At       time.Time `json:"at"`
}

// PurseKey is where the purse of a rule is kept.
func PurseKey(rule string) string { return heal.ID("p", "budget", rule) }

// Used counts the decisions of the time per before now, without the one given.
func (p Purse) Used(decision string, now time.Time, per time.Duration) int {
	n := 0
	for _, e := range p.Spent {
		if e.Decision != decision && now.Sub(e.At) < per {
			n++
		}
	}
	return n
}

// Spend returns the purse with the decision paid from it, unless as many
// others were as limit allows in the time per.
func (p Purse) Spend(decision string, now time.Time, limit int, per time.Duration) (Purse, bool) {
	if p.Used(decision, now, per) >= limit {
		return p, false
	}
	if slices.ContainsFunc(p.Spent, func(e Expense) bool { return e.Decision == decision }) {
		return p, true
	}
	var spent []Expense
	for _, e := range p.Spent {
		if now.Sub(e.At) < per {
			spent = append(spent, e)
		}
	}
	return Purse{Spent: append(spent, Expense{decision, now})}, true
}

// GiveBack returns the purse as if the decision had spent nothing.
func (p Purse) GiveBack(decision string) Purse {
	return Purse{Spent: slices.DeleteFunc(slices.Clone(p.Spent), func(e Expense) bool { return e.Decision == decision })}
}

// Idle reports whether no budget can remember any of it.
func (p Purse) Idle(now time.Time) bool {
	const longest = 7 * 24 * time.Hour // as the policy allows
	return !slices.ContainsFunc(p.Spent, func(e Expense) bool { return now.Sub(e.At) < longest })
}
