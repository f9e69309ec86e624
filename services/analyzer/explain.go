package analyzer

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/cause"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// endpoints are what an analyzer can be asked for.
func (a *analyzer) endpoints() []bus.Endpoint {
	return []bus.Endpoint{
		{Name: "explain", Summary: "Says what is known of an object or an incident, what was done, and what would be done now.", Answer: a.explain},
		{Name: "policy", Summary: "Gives the policy in force.", Answer: func(context.Context, []byte) (any, error) {
			j := a.judge()
			return PolicyInForce{Mode: j.mode, RecoveryTimeout: j.recoveryTimeout.Seconds(), Protected: j.protected, Policy: j.policy.Document()}, nil
		}},
	}
}

// A PolicyInForce is what an analyzer judges by: the answer of its endpoint policy.
type PolicyInForce struct {
	Mode            heal.Mode       `json:"mode"`
	RecoveryTimeout float64         `json:"recovery_timeout"` // seconds
	Protected       []string        `json:"protected"`        // namespaces, besides those that always are
	Policy          json.RawMessage `json:"policy"`           // the whole document
}

// explain answers a heal.Inquiry with a heal.Insight.
func (a *analyzer) explain(ctx context.Context, question []byte) (any, error) {
	var q heal.Inquiry
	if err := json.Unmarshal(question, &q); err != nil {
		return nil, bus.Permanent(fmt.Errorf("the question is not JSON of the schema inquiry: %w", err))
	}
	if err := q.Validate(); err != nil {
		return nil, bus.Permanent(err)
	}
	groups, err := a.groupsOf(ctx, q)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	j := a.judge()
	in := heal.Insight{Inquiry: q, At: now.UTC(), Mode: j.mode, Policy: j.policy.Ref(""), Troubles: []heal.Trouble{}, Followers: []heal.Follower{}}
	sight := a.sight.Now(ctx)
	in.Clear, in.Sight = sight.Clear, sight.Detail
	for _, g := range groups {
		for _, s := range g.Of(q.Incident, now) {
			o := occasion{now: now, announced: now, acted: a.acted.before(now), sight: sight, spent: map[string]int{}}
			if s.Sample != nil {
				o.failure = s.Sample.Failure
				if o.around, err = a.around(ctx, o.failure); err != nil {
					return nil, err
				}
				in.Followers = append(in.Followers, followers(s, o.around, now)...)
			}
			t, pays := j.trouble(g, s, o, q.WhyNot)
			if pays.rule != "" {
				purse, err := a.book.Purse(ctx, pays.rule)
				if err != nil {
					return nil, err
				}
				o.spent[pays.rule] = purse.Used("", now, pays.per)
				t, _ = j.trouble(g, s, o, q.WhyNot)
			}
			in.Troubles = append(in.Troubles, t)
		}
	}
	if q.Incident != "" {
		in.Troubles, in.Followers = part(in.Troubles, in.Followers)
	}
	in.Summary = summary(in)
	if len(in.Troubles) == 0 && q.Incident != "" {
		return nil, fmt.Errorf("nothing is remembered of incident %s: %w", heal.Clean(q.Incident, 64), bus.ErrNotFound)
	}
	return in, nil
}

// groupsOf finds what is remembered of what is asked about.
func (a *analyzer) groupsOf(ctx context.Context, q heal.Inquiry) ([]incident.Group, error) {
	if q.Incident != "" {
		return a.book.Incident(ctx, q.Incident)
	}
	var found []incident.Group
	for _, t := range candidates(q) {
		g, err := a.book.Group(ctx, incident.ObjectKey(t.Namespace, t.Kind, t.Name))
		if err != nil {
			return nil, err
		}
		if len(g.States) > 0 {
			found = append(found, g)
		}
	}
	return found, nil
}

// candidates are the objects under which what is asked about may be remembered:
// a pod is with its owner, whose name its own begins with.
func candidates(q heal.Inquiry) []heal.Target {
	all := []heal.Target{{Kind: q.Kind, Namespace: q.Namespace, Name: q.Name}}
	if q.Kind != "Pod" {
		return all
	}
	cut := func(name string) string { return name[:max(0, strings.LastIndexByte(name, '-'))] }
	once := cut(q.Name)
	twice := cut(once)
	for _, owner := range []heal.Target{
		{Kind: "Deployment", Name: twice}, {Kind: "StatefulSet", Name: once}, {Kind: "DaemonSet", Name: once},
		{Kind: "ReplicaSet", Name: once}, {Kind: "Job", Name: once}, {Kind: "CronJob", Name: twice},
	} {
		if owner.Name != "" {
			owner.Namespace = q.Namespace
			all = append(all, owner)
		}
	}
	return all
}

// paying is the rule of whose budget a decision takes.
type paying struct {
	rule string
	per  time.Duration
}

// trouble says all about one state of a group: what is remembered, and what
// the judge makes of its last announcement now. It is pure.
func (j judge) trouble(g incident.Group, s incident.State, o occasion, whyNot heal.Strategy) (heal.Trouble, paying) {
	now, window := o.now, j.policy.Window()
	t := heal.Trouble{
		Object: s.Object, Type: s.Type, Reason: s.Reason, Incident: s.Incident.ID, Since: s.Incident.Opened.UTC(), Open: s.Open(now),
		FailedTries: s.Failed, Waits: g.Waits.For, Cause: heal.Cause{Kind: heal.CauseUnknown},
		Course: slices.Clone(s.Course), Ladder: []heal.Rung{}, Tried: []heal.Try{},
	}
	if t.Course == nil {
		t.Course = []heal.Deed{}
	}
	t.Similar, _ = s.History.Within(now, window)
	if s.UnderWay(now) {
		t.UnderWay = &heal.Deed{DecisionID: s.Recovery.Decision, Strategy: s.Recovery.Strategy, Acts: true, Until: s.Recovery.Until.UTC()}
		for _, d := range s.Course {
			if d.DecisionID == s.Recovery.Decision {
				d.Until = s.Recovery.Until.UTC()
				t.UnderWay = &d
			}
		}
	}
	t.NextLook, t.NextWhy = j.next(s, now)
	if s.Sample == nil {
		t.WhyNot = unless(whyNot == "", "what it looks like is not remembered any more")
		return t, paying{}
	}
	last := s.Sample.Failure
	t.Last = &last
	if t.Open == 0 {
		t.WhyNot = unless(whyNot == "", "nothing of it fails any more")
		return t, paying{}
	}
	// As if it was announced once more.
	f := last
	f.Occurrence += unannounced
	f.Timestamp, f.ResolvedAt = heal.Unix{Time: now}, time.Time{}
	o.failure = f
	t.Cause = cause.Find(cause.Facts{Failure: f, Group: g, Around: o.around, Now: now})
	t.Tried = g.TriesOf(t.Cause.Kind, now)
	if root, follows := g.FindRoot(f, o.around, now); follows {
		t.Root = &heal.Root{Object: root.Object, Reason: root.Reason, Incident: root.Incident.ID, Why: root.Why}
	}
	_, made := j.decideIn(g, o)
	d := made.decision
	d.Failure.Occurrence = last.Occurrence + 1
	d.ID = heal.MakeDecisionID(d.Failure)
	t.Now = &d
	for _, rung := range policy.Ladder(d.Type) {
		t.Ladder = append(t.Ladder, heal.Rung{Strategy: rung, Chosen: rung == d.Strategy, Why: j.whyNot(made, rung)})
	}
	if whyNot != "" {
		t.WhyNot = j.whyNot(made, whyNot)
	}
	if made.pays == "" {
		return t, paying{}
	}
	return t, paying{made.pays, time.Duration(made.budget.Per)}
}

// unannounced is so far ahead of the occurrence that is remembered that it has
// no decision yet: occurrences may overtake each other.
const unannounced = 1 << 20

func unless(no bool, text string) string {
	if no {
		return ""
	}
	return text
}

// whyNot says why a strategy is not what would be done.
func (j judge) whyNot(made judgement, s heal.Strategy) string {
	d := made.decision
	if n := len(d.Explanation.Steps); made.asked.Failure.Type == "" && n > 0 { // the policy was not asked for a strategy
		why := strings.TrimSuffix(d.Explanation.Steps[n-1], ": "+string(d.Strategy))
		if s == d.Strategy {
			return "it is chosen: " + why
		}
		return why
	}
	why := j.policy.WhyNot(made.asked, d.Type, d.Severity, made.choice, s)
	if s != d.Strategy || d.Acts() || s == heal.Monitor {
		return why
	}
	for _, v := range d.Guards {
		if !v.Allowed {
			return why + fmt.Sprintf("; but guard %s is against it: %s", v.Name, v.Detail)
		}
	}
	return why + fmt.Sprintf("; but the mode is %s", d.Mode)
}

// next is when what goes on is looked at again, at the latest, and why then.
func (j judge) next(s incident.State, now time.Time) (time.Time, string) {
	limits := j.policy.Guards()
	rested := func(rest policy.Duration) time.Time { return s.LastFailed.Add(time.Duration(rest)).UTC() }
	rest := policy.Duration(limits.Backoff.After(s.Failed))
	switch {
	case s.UnderWay(now):
		return s.Recovery.Until.UTC(), fmt.Sprintf("%s is under way; its result is awaited until then", s.Recovery.Strategy)
	case s.Open(now) == 0:
		return time.Time{}, "nothing of it fails; it is looked at when it does again"
	case s.Failed >= limits.GiveUp.After && rested(limits.GiveUp.For).After(now):
		return rested(limits.GiveUp.For), fmt.Sprintf("%d tries in a row did not help: it is left to people until then, and tried once more after", s.Failed)
	case s.Failed > 0 && rested(rest).After(now):
		return rested(rest), "it rests after a try that did not help; the next announcement after that is judged afresh"
	}
	return now.Add(j.recoveryTimeout).UTC(), "what lasts is announced again by then, and judged afresh"
}

// followers are what belongs to the incident of a state, beside it.
func followers(s incident.State, around incident.Around, now time.Time) []heal.Follower {
	var all []heal.Follower
	for _, b := range []incident.Board{around.OnNode, around.Namespace} {
		for _, e := range b.Going(now) {
			if e.Incident == s.Incident.ID && e.Object != s.Object {
				all = append(all, heal.Follower{Object: e.Object, Reason: e.Reason, Incident: e.Incident, Since: time.UnixMilli(e.First).UTC()})
			}
		}
	}
	slices.SortFunc(all, func(a, b heal.Follower) int {
		return cmp.Or(cmp.Compare(a.Object, b.Object), cmp.Compare(a.Reason, b.Reason))
	})
	return slices.CompactFunc(all, func(a, b heal.Follower) bool { return a.Object == b.Object && a.Reason == b.Reason })
}

// part tells the root of an incident from what follows from it.
func part(troubles []heal.Trouble, more []heal.Follower) ([]heal.Trouble, []heal.Follower) {
	var roots []heal.Trouble
	follow := []heal.Follower{}
	for _, t := range troubles {
		if t.Root != nil && t.Root.Incident == t.Incident && len(troubles) > 1 {
			follow = append(follow, heal.Follower{Object: t.Object, Reason: t.Reason, Incident: t.Incident, Since: t.Since})
			continue
		}
		roots = append(roots, t)
	}
	if len(roots) == 0 {
		return troubles, more
	}
	return roots, follow
}

func summary(in heal.Insight) string {
	what := in.Inquiry.Incident
	if what == "" {
		what = in.Inquiry.Object()
	}
	if len(in.Troubles) == 0 {
		return fmt.Sprintf("Nothing is known to be wrong with %s.", what)
	}
	t := in.Troubles[0]
	about := fmt.Sprintf("%s: %s", t.Object, t.Reason)
	switch {
	case t.Open == 0 && t.UnderWay == nil:
		return about + ", which is over."
	case t.UnderWay != nil:
		return fmt.Sprintf("%s; %s is under way.", about, t.UnderWay.Strategy)
	case t.Root != nil:
		return fmt.Sprintf("%s; it follows from %s (%s).", about, t.Root.Object, t.Root.Reason)
	case t.Now == nil:
		return about + "."
	}
	return fmt.Sprintf("%s; now: %s", about, t.Now.Explanation.Summary)
}
