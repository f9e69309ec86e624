package analyzer

import (
	"cmp"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// A Policy is a policy document that can be judged by.
type Policy = policy.Policy

// ParsePolicy reads a policy document. An error names each thing that is wrong
// with its line, and what was probably meant.
func ParsePolicy(data []byte) (Policy, error) { return policy.Parse(data) }

// A Remark is about something that a policy may say, but that hardly anybody means.
type Remark = policy.Remark

// LintPolicy is ParsePolicy, and says besides what cannot be meant so.
func LintPolicy(data []byte) (Policy, []Remark, error) { return policy.Lint(data) }

// A PolicyChange is a field of which two policies say different things.
type PolicyChange = policy.Change

// DiffPolicies is what b says otherwise than a.
func DiffPolicies(a, b Policy) []PolicyChange { return policy.Diff(a, b) }

// BuiltinPolicy is the policy that counts without a policy_file.
func BuiltinPolicy() (Policy, error) { return policy.Builtin() }

// A Recorded is a failure, its end, or a result, as its stream took it.
type Recorded struct {
	At      time.Time
	Failure *heal.Failure
	Result  *heal.Result
}

// ReplayConfig is what a Replay judges by.
type ReplayConfig struct {
	Policy          Policy
	Mode            heal.Mode     // default auto
	RecoveryTimeout time.Duration // as of the actuator; default 5 min
	Protected       []string      // namespaces; default ours
}

// A Replay judges what was recorded as the analyzer would have judged it, by
// the same pure code, and by the recorded times. It touches nothing.
//
// What nobody can know is taken so: the watchers saw clearly; and an action
// that was not taken then, or was another one, ends when the recorded one did,
// and neither helps nor harms. What failed then fails all the same.
type Replay struct {
	judge  judge
	groups map[string]incident.Group
	boards map[string]incident.Board
	purses map[string]incident.Purse
	acted  []time.Time
}

// NewReplay begins with nothing remembered.
func NewReplay(c ReplayConfig) *Replay {
	defaults := Config{Mode: cmp.Or(c.Mode, heal.ModeAuto), RecoveryTimeout: c.RecoveryTimeout, Protected: c.Protected}.withDefaults()
	return &Replay{
		judge:  judge{policy: c.Policy, mode: defaults.Mode, recoveryTimeout: defaults.RecoveryTimeout, protected: defaults.Protected},
		groups: map[string]incident.Group{},
		boards: map[string]incident.Board{},
		purses: map[string]incident.Purse{},
	}
}

var clearSight = heal.Sight{Clear: true, Detail: "taken as seen clearly"}

// Take judges the next message, which must not be older than the one before.
// It reports false for one that no decision is made about.
func (r *Replay) Take(m Recorded) (heal.Decision, bool) {
	switch {
	case m.Result != nil:
		r.result(*m.Result, m.At)
	case m.Failure != nil && m.Failure.Resolved():
		r.resolved(*m.Failure, m.At)
	case m.Failure != nil:
		return r.failure(*m.Failure, m.At)
	}
	return heal.Decision{}, false
}

func (r *Replay) resolved(f heal.Failure, at time.Time) {
	key := incident.GroupKey(f)
	if s, news := r.groups[key].States[incident.Key(f)].Resolve(f, at, r.judge.policy.Window()); news {
		r.groups[key] = r.groups[key].With(f, s)
	}
	r.note(f, "", at)
}

func (r *Replay) result(res heal.Result, at time.Time) {
	f := res.Decision.Failure
	key := incident.GroupKey(f)
	s := r.groups[key].States[incident.Key(f)]
	if !res.Decision.Acts() || s.Recovery.Strategy != res.Decision.Strategy {
		res.Outcome = heal.Skipped // of what was done here instead nobody knows
	}
	if s, ended := s.End(res, at, at); ended {
		r.groups[key] = r.groups[key].With(f, s).Learn(res, at)
	}
}

func (r *Replay) failure(f heal.Failure, at time.Time) (heal.Decision, bool) {
	key := incident.GroupKey(f)
	recent := r.acted[:0]
	for _, t := range r.acted {
		if at.Sub(t) < time.Minute {
			recent = append(recent, t)
		}
	}
	r.acted = recent
	o := occasion{failure: f, announced: at, now: at, acted: r.acted, around: r.around(f), sight: clearSight, spent: map[string]int{}}
	var next incident.Group
	var made judgement
	for {
		next, made = r.judge.decideIn(r.groups[key], o)
		rule, owes := made.owes(o.spent)
		if !owes {
			break
		}
		id, b := made.decision.ID, made.budget
		per := time.Duration(b.Per)
		o.spent[rule] = r.purses[rule].Used(id, at, per)
		r.purses[rule], _ = r.purses[rule].Spend(id, at, b.Actions, per)
	}
	if !made.fresh {
		return heal.Decision{}, false // it came twice
	}
	if made.decision.Acts() {
		r.acted = append(r.acted, at)
	}
	r.groups[key] = next.Tell([]string{made.decision.ID})
	r.note(f, made.decision.IncidentID, at)
	return made.decision, true
}

func (r *Replay) note(f heal.Failure, incidentID string, at time.Time) {
	for _, key := range incident.BoardsOf(f) {
		if b, news := r.boards[key].Note(f, incidentID, at); news {
			r.boards[key] = b
		}
	}
}

func (r *Replay) around(f heal.Failure) incident.Around {
	want := incident.Surroundings(f)
	around := incident.Around{
		Node: r.groups[want.Node], OnNode: r.boards[want.OnNode], Namespace: r.boards[want.Namespace],
		Registry: r.boards[want.Registry], Nodes: r.boards[want.Nodes], Backing: map[string]incident.Group{},
	}
	for name, key := range want.Backing {
		around.Backing[name] = r.groups[key]
	}
	return around
}
