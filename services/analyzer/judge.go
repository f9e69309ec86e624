package analyzer

import (
	"cmp"
	"fmt"
	"strings"
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

// approvalTTL is how long one may wait for a person's approval.
const approvalTTL = 15 * time.Minute

func lifetime(mode heal.Mode) time.Duration {
	if mode == heal.ModeApprove {
		return approvalTTL
	}
	return decisionTTL
}

// Reasons of decisions that nothing else in this module gives.
const (
	reasonSuperseded  = "Superseded"  // overtaken: by a newer announcement, or by the failure's end
	reasonModeObserve = "ModeObserve" // nothing is carried out in this mode
	reasonModeOff     = "ModeOff"     // the same, by a rule
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
	announced time.Time       // when the stream took it
	now       time.Time       // when it is judged
	acted     []time.Time     // when this analyzer decided to act, in the last minute
	group     incident.Group  // of the failure's owner, as it was before
	around    incident.Around // what it may follow from
	sight     heal.Sight      // how well the watchers see
	spent     map[string]int  // of the budgets of rules, by other decisions; what is not in it was not asked for
	woken     string          // the dependency that is back, for which it is judged before it is announced; empty if it was announced
}

// A judgement is what became of an occasion.
type judgement struct {
	decision heal.Decision
	fresh    bool // made just now, not found
	tell     bool // to be published; false for one that was, or that somebody else is to
	episode  bool // the first about its episode
	standing incident.Standing
	waitsFor string // the dependency that its target waits for
	pays     string // the rule of whose budget the decision takes, if it acts
	budget   policy.Budget

	asked  policy.Case   // what the policy was asked, unless something else decided
	choice policy.Choice // what it chose
}

// owes is the rule of whose budget the decision takes, if that was not asked for.
func (m judgement) owes(spent map[string]int) (rule string, owes bool) {
	_, asked := spent[m.pays]
	return m.pays, m.fresh && m.pays != "" && !asked && m.decision.Acts()
}

// decideIn is decide for one of the failures of a group.
func (j judge) decideIn(g incident.Group, o occasion) (incident.Group, judgement) {
	o.group = g
	s, made := j.decide(g.State(o.failure, o.now, j.policy.Window()), o)
	if !made.fresh {
		return g, made
	}
	g = g.With(o.failure, s)
	switch {
	case made.waitsFor != "":
		g.Waits = incident.Wait{For: made.waitsFor, Since: o.now}
	case made.standing == incident.Current && !heldBack(made.decision):
		g.Waits = incident.Wait{}
	}
	return g, made
}

// heldBack reports whether what d is about would be restarted, as what it
// waited for is back, if no guard were against it.
func heldBack(d heal.Decision) bool { return d.Parameters[parameterBack] != "" && d.Vetoed() }

// The parameters of decisions that name what the target waits for, and what it
// waited for.
const (
	parameterDependency = "dependency"
	parameterBack       = "dependency_back"
)

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

	group := o.group.With(f, s)
	why := cause.Find(cause.Facts{Failure: f, Group: group, Around: o.around, Now: o.now})
	t, target, parameters := f.Type, f.Target, map[string]string{}
	base, severity, instead := j.policy.SeverityOf(f, seen.Similar)
	critical := f.Metadata["critical"] == "true" && instead == "" // the watcher says: whatever its type weighs
	if critical {
		severity = severity.AtLeast(heal.Critical)
	}
	ruling := j.rule(matter(policy.Matter{Failure: f, Severity: severity, Similar: seen.Similar, Failed: s.Failed, Cause: why, Now: o.now}, group, o.around))
	severity = cmp.Or(ruling.Severity, severity)
	table, rule := j.policy.Strategy(t, severity)
	if ruling.Strategy != "" {
		table, rule = ruling.Strategy, ruling.rule
	}
	var asked policy.Case
	choice, held := policy.Choice{Strategy: heal.Monitor}, ""
	switch seen.Standing {
	case incident.UnderWay:
		choice.Reason, held = heal.ReasonRecoveryUnderWay, underWay(s, o.now)
	case incident.Superseded:
		choice.Reason, held = reasonSuperseded, "a newer announcement of it, or its end, came before this one"
	case incident.Decided:
		choice.Reason, held = reasonSuperseded, "many others came before this one could be told"
	default:
		if root, follows := group.FindRoot(f, o.around, o.now); follows {
			s = s.Join(root.Incident, o.now)
			seen.Incident = s.Incident.ID
			choice.Reason, held = heal.ReasonFollowsIncident, follow(root)
			parameters["root"], parameters["root_incident"] = root.Object, root.Incident.ID
			break
		}
		asked = policy.Case{
			Failure: f, Severity: severity, Similar: seen.Similar, Cause: why,
			Back: back(group.Waits, o), InVain: group.InVain(why.Kind, o.now), Ruled: ruling.Strategy != "",
		}
		choice = policy.Refine(asked, table)
		if choice.OnOwner { // it is the owner's failure then, and weighs as much
			t, target = heal.DeploymentFailure, f.Owner
			base, severity = j.policy.Severity(t, seen.Similar)
			if critical {
				severity = severity.AtLeast(heal.Critical)
			}
			severity = cmp.Or(ruling.Severity, severity)
			table, rule = j.policy.Strategy(t, severity)
			if table == heal.Monitor {
				choice = policy.Choice{Strategy: heal.Monitor, Reason: heal.ReasonSeverityTable}
			}
		}
		name(parameters, why, f)
		if choice.Reason == policy.ReasonBack {
			parameters[parameterBack] = asked.Back
		}
	}

	d := heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: seen.Incident, Type: t,
		Severity: severity, BaseSeverity: base, SimilarFailures: seen.Similar,
		Strategy: choice.Strategy, ActionType: t.ActionType(), Mode: ruling.mode, Reason: choice.Reason,
		Expires: o.now.Add(lifetime(ruling.mode)).UTC(), Target: target, Parameters: parameters,
		Cause: why, Policy: j.policy.Ref(rule), Failure: f,
		Guards: guard.Judge(guard.Input{
			Failure: f, Strategy: choice.Strategy, Target: target, State: s, Group: group,
			NodesFailing: o.around.Nodes.Nodes(o.now, time.Duration(j.policy.Guards().Storm.Cooldown)), Announced: o.announced, Now: o.now,
			Acted: o.acted, Sight: o.sight, Protected: j.protected, Limits: j.policy.Guards(), Budget: ruling.spending(o.spent),
		}),
	}
	d.Reason = reason(d)
	d.Explanation = policy.Explain(policy.Account{
		Decision: d, Window: window, AtLeast: seen.AtLeast, Instead: instead, Critical: critical, Ruled: ruling.steps, Held: held, Table: table, Refined: choice.Steps,
		Tried: group.Tried(why.Kind, o.now), Woken: o.woken,
	})
	if again {
		return s, judgement{decision: d, tell: true}
	}
	made := judgement{decision: d, fresh: true, tell: true, episode: seen.New, standing: seen.Standing, asked: asked, choice: choice}
	if ruling.Budget != nil {
		made.pays, made.budget = ruling.Name, *ruling.Budget
	}
	if d.Reason == policy.ReasonDependency {
		made.waitsFor = cause.Dependency(why)
	}
	return s.Decide(d, o.announced, o.now, j.recoveryTimeout), made
}

// matter is m with what is known of the node and the owner of what fails.
func matter(m policy.Matter, group incident.Group, around incident.Around) policy.Matter {
	owners := map[string]bool{}
	if m.Failure.Type == heal.PodFailure && m.Failure.Node != "" {
		owners[m.Failure.Affected().String()] = true
	}
	for _, e := range around.OnNode.Going(m.Now) {
		owners[e.Object] = true
	}
	_, byNode := group.Failing(m.Now)
	for _, n := range byNode {
		m.Workload.Failing += n
	}
	m.Node = policy.Node{Failing: m.Failure.Type == heal.NodeFailure || around.Node.Leading(m.Now), Owners: len(owners)}
	return m
}

// back is the dependency that the owner waited for, if it is there again.
func back(w incident.Wait, o occasion) string {
	if w.For == "" || o.now.Sub(w.Since) > longestWait {
		return ""
	}
	if o.around.Namespace.Fails(w.For, o.now) {
		return ""
	}
	return w.For
}

// longestWait is how long a dependency may be away, and its return still be
// what those who waited for it are restarted for.
const longestWait = 24 * time.Hour

// name says in the decision's parameters what its cause names.
func name(parameters map[string]string, why heal.Cause, f heal.Failure) {
	switch why.Kind {
	case heal.CauseNode:
		parameters["suspect_node"] = f.Node
	case heal.CauseDependency:
		parameters[parameterDependency] = cause.Dependency(why)
	case heal.CauseConfig:
		if missing := f.Metadata["missing"]; missing != "" {
			parameters["missing"] = heal.Clean(missing, heal.MaxText)
		}
	}
}

func follow(root incident.Root) string {
	return fmt.Sprintf("it follows from %s (%s, incident %s): %s", root.Object, root.Reason, root.Incident.ID, root.Why)
}

// A ruling is what the policy's rules say, put into the terms of a decision.
type ruling struct {
	policy.Rule
	mode  heal.Mode
	rule  string   // as a decision names it
	steps []string // as its explanation does
}

// spending is what other decisions have used of the rule's budget.
func (r ruling) spending(spent map[string]int) guard.Spending {
	if r.Budget == nil {
		return guard.Spending{}
	}
	return guard.Spending{Rule: r.Name, Budget: *r.Budget, Used: spent[r.Name]}
}

func (j judge) rule(m policy.Matter) ruling {
	mode := j.mode
	var marked []string
	if mark := m.Failure.Metadata[heal.MetadataMode]; mark != "" {
		mode = mode.Tighter(heal.Mode(mark))
		marked = []string{fmt.Sprintf("annotation %s: %s", heal.AnnotationMode, heal.Clean(mark, 32))}
	}
	r, found := j.policy.Ruling(m)
	if !found {
		return ruling{mode: mode, steps: marked}
	}
	out := ruling{Rule: r.Rule, mode: mode, rule: "rules/" + r.Name}
	says := []string{}
	if r.Severity != "" {
		says = append(says, "severity "+string(r.Severity))
	}
	if r.Strategy != "" {
		says = append(says, "strategy "+string(r.Strategy))
	}
	if r.Mode != "" {
		out.mode = mode.Tighter(r.Mode)
		says = append(says, "mode "+string(r.Mode))
	}
	if r.Budget != nil {
		says = append(says, "at most "+r.Budget.String())
	}
	step := fmt.Sprintf("rule %q: %s", r.Name, strings.Join(says, ", "))
	if r.Note != "" {
		step += "; " + r.Note
	}
	out.steps = append(marked, step)
	return out
}

// reason is why d is as it is, or else why it is not carried out.
func reason(d heal.Decision) string {
	if d.Strategy == heal.Monitor {
		return d.Reason
	}
	for _, v := range d.Guards {
		if !v.Allowed {
			return v.Reason
		}
	}
	switch d.Mode {
	case heal.ModeObserve:
		return reasonModeObserve
	case heal.ModeOff:
		return reasonModeOff
	}
	return d.Reason
}

func underWay(s incident.State, now time.Time) string {
	if !s.UnderWay(now) {
		return "it was announced before the last recovery ended"
	}
	return fmt.Sprintf("a recovery is under way (%s by decision %s)", s.Recovery.Strategy, s.Recovery.Decision)
}
