package incident

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Try is how often a strategy helped against a cause, for one group. Both
// counts halve with every halfLife: what was so a month ago says little.
type Try struct {
	Cause    heal.CauseKind `json:"cause"`
	Strategy heal.Strategy  `json:"strategy"`
	Helped   float64        `json:"helped,omitempty"`
	Failed   float64        `json:"failed,omitempty"`
	At       time.Time      `json:"at"` // when both were counted
}

const (
	halfLife    = 3 * 24 * time.Hour
	maxTries    = 32
	leastWeight = 0.5 // less than that is as good as forgotten

	// inVainAfter is how many tries that all failed show that a strategy does
	// not help. It is the patience of give_up, which comes first in a row.
	inVainAfter = 2.5
	helpedOnce  = 0.25 // one success, two half-lives ago
)

func (t Try) decayed(now time.Time) Try {
	if age := now.Sub(t.At); age > 0 {
		f := math.Exp2(-float64(age) / float64(halfLife))
		t.Helped, t.Failed, t.At = t.Helped*f, t.Failed*f, now
	}
	return t
}

func (t Try) weight(now time.Time) float64 {
	t = t.decayed(now)
	return t.Helped + t.Failed
}

// Learn returns the group that remembers how a recovery turned out. Outcomes
// that say nothing about the strategy are passed over.
func (g Group) Learn(r heal.Result, now time.Time) Group {
	if r.Outcome != heal.Succeeded && r.Outcome != heal.Failed {
		return g
	}
	d := r.Decision
	t := Try{Cause: d.Cause.Kind, Strategy: d.Strategy, At: now}
	tries := make([]Try, 0, len(g.Tries)+1)
	for _, old := range g.Tries {
		switch {
		case old.Cause == t.Cause && old.Strategy == t.Strategy:
			t = old.decayed(now)
		case old.weight(now) >= leastWeight:
			tries = append(tries, old)
		}
	}
	if r.Outcome == heal.Succeeded {
		t.Helped++
	} else {
		t.Failed++
	}
	g.Tries = last(append(tries, t), maxTries)
	return g
}

// InVain are the strategies that were tried against a cause often enough, and
// never helped.
func (g Group) InVain(cause heal.CauseKind, now time.Time) []heal.Strategy {
	var vain []heal.Strategy
	for _, t := range g.Tries {
		if t = t.decayed(now); t.Cause == cause && t.Failed >= inVainAfter && t.Helped < helpedOnce && !slices.Contains(vain, t.Strategy) {
			vain = append(vain, t.Strategy)
		}
	}
	return vain
}

// Tried is what was tried against a cause, in words; empty if nothing was.
func (g Group) Tried(cause heal.CauseKind, now time.Time) string {
	var all []string
	for _, t := range g.Tries {
		if t = t.decayed(now); t.Cause == cause && t.Helped+t.Failed >= leastWeight {
			all = append(all, fmt.Sprintf("%s helped %.1f and failed %.1f times", t.Strategy, t.Helped, t.Failed))
		}
	}
	if len(all) == 0 {
		return ""
	}
	return strings.Join(all, ", ") + " (what is old counts less)"
}

// TriesOf is what is remembered against a cause.
func (g Group) TriesOf(cause heal.CauseKind, now time.Time) []heal.Try {
	all := []heal.Try{}
	for _, t := range g.Tries {
		if t = t.decayed(now); t.Cause == cause && t.Helped+t.Failed >= leastWeight {
			all = append(all, heal.Try{Cause: t.Cause, Strategy: t.Strategy, Helped: tenths(t.Helped), Failed: tenths(t.Failed)})
		}
	}
	return all
}

func tenths(x float64) float64 { return math.Round(10*x) / 10 }
