// Package guard says what must not be done, although the policy asks for it.
// Guards are pure, and they fail closed: what a guard cannot tell, it vetoes.
//
// To add a guard, write it in a file of its own and list it in guards below;
// nothing else changes, except that Input or policy.Guards grows by what it
// has to look at.
package guard

import (
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// An Input is all that a guard may know.
type Input struct {
	Failure      heal.Failure
	Strategy     heal.Strategy  // that the policy asks for
	Target       heal.Target    // that the strategy changes; the failure's if it is empty
	State        incident.State // of the failure's fingerprint, with this announcement in it
	Group        incident.Group // of everything that is remembered about the same owner
	NodesFailing int            // nodes that fail, or did until a moment ago
	Announced    time.Time      // when the stream took the failure
	Now          time.Time
	Acted        []time.Time // when this analyzer decided to act, in the last minute
	Protected    []string    // namespaces, besides those that always are
	Sight        heal.Sight  // whether what the watchers see may be acted upon
	Limits       policy.Guards
	Budget       Spending // of the rule that counts; the zero Spending if that has none
}

// A guard returns whether the strategy may be carried out, and a clause with
// the numbers that decided; of a veto also its reason.
type guard struct {
	name  string
	judge func(Input) heal.Verdict
}

// guards is every guard. The first veto is the decision's reason, so those
// that say more about why stand first.
var guards = []guard{
	{"protected", protected},
	{"marks", marks},
	{"blind", blind},
	{"maintenance", maintenance},
	{"storm", storm},
	{"rollout", rollout},
	{"gitops", gitops},
	{"one_at_a_time", oneAtATime},
	{"one_for_all", oneForAll},
	{"backoff", backoff},
	{"flapping", flapping},
	{"fresh", fresh},
	{"budget", budget},
	{"rate", rate},
}

// Judge returns the verdict of every guard, in order. Watching changes
// nothing, so nobody vetoes it.
func Judge(in Input) []heal.Verdict {
	verdicts := make([]heal.Verdict, 0, len(guards))
	for _, g := range guards {
		v := allow("monitor changes nothing")
		if in.Strategy != heal.Monitor {
			v = g.judge(in)
		}
		v.Name = g.name
		verdicts = append(verdicts, v)
	}
	return verdicts
}

func allow(detail string) heal.Verdict { return heal.Verdict{Allowed: true, Detail: detail} }

func veto(reason, detail string) heal.Verdict { return heal.Verdict{Reason: reason, Detail: detail} }

// Names are the names of all guards, in order.
func Names() []string {
	names := make([]string, len(guards))
	for i, g := range guards {
		names[i] = g.name
	}
	return names
}
