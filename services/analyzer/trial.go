package analyzer

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// A Trial is a file of tests of a policy.
type Trial struct {
	Policy string `json:"policy,omitempty"` // its file, beside this one; default: this one's name without "_test"
	Tests  []Case `json:"tests"`
}

// A Case is what must be decided about a failure.
type Case struct {
	Name   string    `json:"name"`
	At     string    `json:"at,omitempty"`     // RFC 3339; default Monday, 2026-01-05T12:00:00Z
	Mode   heal.Mode `json:"mode,omitempty"`   // of the analyzer; default auto
	Before []Earlier `json:"before,omitempty"` // what happened until then
	Given  Symptom   `json:"given"`
	Want   Want      `json:"want"`
}

// A Symptom is a failure as far as a test says: what is missing is filled in.
type Symptom struct {
	Type        heal.FailureType  `json:"type,omitempty"`   // default pod_failure
	Reason      string            `json:"reason,omitempty"` // default CrashLoopBackOff
	Kind        string            `json:"kind,omitempty"`   // default: as the type has it
	Namespace   string            `json:"namespace,omitempty"`
	Name        string            `json:"name,omitempty"`
	Owner       string            `json:"owner,omitempty"` // Deployment/checkout; of a pod that is the default
	Node        string            `json:"node,omitempty"`
	Detector    string            `json:"detector,omitempty"`
	Description string            `json:"description,omitempty"`
	Occurrence  int               `json:"occurrence,omitempty"` // default 1
	Age         policy.Duration   `json:"age,omitempty"`        // since it was first seen
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// An Earlier is what happened before: the same failure in other episodes
// (other pods of the same owner), or another failure.
type Earlier struct {
	Ago     policy.Duration `json:"ago"`
	Times   int             `json:"times,omitempty"`   // default 1
	Every   policy.Duration `json:"every,omitempty"`   // between the times; default 1s
	Failure *Symptom        `json:"failure,omitempty"` // default: as given
	Result  string          `json:"result,omitempty"`  // an outcome, of what was decided if that acts; none: it is under way; default skipped
	Lasting bool            `json:"lasting,omitempty"` // it goes on; else it is over a second later
}

// Want is what must be decided. What it does not say may be anything.
type Want struct {
	Strategy heal.Strategy    `json:"strategy,omitempty"`
	Severity heal.Severity    `json:"severity,omitempty"`
	Mode     heal.Mode        `json:"mode,omitempty"`
	Reason   string           `json:"reason,omitempty"`
	Rule     string           `json:"rule,omitempty"`
	Type     heal.FailureType `json:"type,omitempty"`
	Target   string           `json:"target,omitempty"` // shop/Deployment/checkout
	Cause    heal.CauseKind   `json:"cause,omitempty"`
	Acts     *bool            `json:"acts,omitempty"`
}

// A Verdict is how one case of a trial ended.
type Verdict struct {
	Name  string        `json:"name"`
	Wrong []Wrong       `json:"wrong,omitempty"` // nothing: it passed
	Got   heal.Decision `json:"got"`
}

// A Wrong is a part of a decision that is not as wanted.
type Wrong struct {
	What string `json:"what"`
	Got  string `json:"got"`
	Want string `json:"want"`
}

// ParseTrial reads a file of tests, as strictly as a policy is read.
func ParseTrial(data []byte) (Trial, error) {
	var t Trial
	if err := policy.Read(data, &t); err != nil {
		return t, err
	}
	if len(t.Tests) == 0 {
		return t, errors.New("tests: there are none")
	}
	var errs []error
	for i, c := range t.Tests {
		errs = append(errs, c.check(fmt.Sprintf("tests[%d]", i)))
	}
	return t, policy.Locate(data, errors.Join(errs...))
}

func (c Case) check(field string) error {
	var errs []error
	if c.Name == "" {
		errs = append(errs, fmt.Errorf("%s.name: is empty", field))
	}
	if _, err := c.at(); err != nil {
		errs = append(errs, fmt.Errorf(`%s.at: %q is not a time such as "2026-01-05T12:00:00Z"`, field, heal.Clean(c.At, 64)))
	}
	one := func(name, value string, all []string) {
		if value != "" {
			errs = append(errs, policy.OneOf(field+"."+name, value, all))
		}
	}
	symptom := func(name string, s Symptom) {
		one(name+".type", string(s.Type), texts(heal.FailureTypes))
		if kind, of, ok := strings.Cut(s.Owner, "/"); s.Owner != "" && (!ok || kind == "" || of == "") {
			errs = append(errs, fmt.Errorf("%s.%s.owner: %q is not a kind and a name, such as Deployment/checkout", field, name, heal.Clean(s.Owner, 64)))
		}
		if err := s.failure("e", time.Unix(0, 0)).Target.Validate(field + "." + name); err != nil {
			errs = append(errs, err)
		}
	}
	one("mode", string(c.Mode), texts(heal.Modes))
	symptom("given", c.Given)
	for i, e := range c.Before {
		at := fmt.Sprintf("before[%d]", i)
		one(at+".result", e.Result, append(texts(heal.Outcomes), "none"))
		if e.Failure != nil {
			symptom(at+".failure", *e.Failure)
		}
		if span := time.Duration(e.Every) * time.Duration(max(0, e.Times-1)); e.Ago <= 0 || span >= time.Duration(e.Ago) {
			errs = append(errs, fmt.Errorf("%s.%s.ago: %s is not before the failure that is given", field, at, e.Ago))
		}
		if e.Times < 0 || e.Times > 10_000 {
			errs = append(errs, fmt.Errorf("%s.%s.times: %d is out of bounds; want 1 to 10000", field, at, e.Times))
		}
	}
	one("want.strategy", string(c.Want.Strategy), texts(heal.Strategies))
	one("want.severity", string(c.Want.Severity), texts(heal.Severities))
	one("want.mode", string(c.Want.Mode), texts(heal.Modes))
	one("want.type", string(c.Want.Type), texts(heal.FailureTypes))
	one("want.cause", string(c.Want.Cause), texts(heal.CauseKinds))
	if c.Want == (Want{}) {
		errs = append(errs, fmt.Errorf("%s.want: says nothing", field))
	}
	return errors.Join(errs...)
}

func texts[T ~string](words []T) []string {
	all := make([]string, len(words))
	for i, w := range words {
		all[i] = string(w)
	}
	return all
}

func (c Case) at() (time.Time, error) {
	return time.Parse(time.RFC3339, cmp.Or(c.At, "2026-01-05T12:00:00Z"))
}

// Try judges each case of a trial by a policy.
func Try(p Policy, t Trial) []Verdict {
	verdicts := make([]Verdict, len(t.Tests))
	for i, c := range t.Tests {
		verdicts[i] = c.try(p)
	}
	return verdicts
}

func (c Case) try(p Policy) Verdict {
	v := Verdict{Name: c.Name}
	now, err := c.at()
	if err != nil {
		v.Wrong = []Wrong{{What: "at", Got: heal.Clean(c.At, 64), Want: "a time"}}
		return v
	}
	type event struct {
		at     time.Time
		happen func(*Replay)
	}
	var events []event
	for i, e := range c.Before {
		like := c.Given
		if e.Failure != nil {
			like = *e.Failure
		}
		for n := range max(1, e.Times) {
			at := now.Add(-time.Duration(e.Ago)).Add(time.Duration(n) * cmp.Or(time.Duration(e.Every), time.Second))
			f := like.other(fmt.Sprintf("before-%d-%d", i, n)).failure(fmt.Sprintf("e-%d-%d", i, n), at)
			var decided heal.Decision
			events = append(events, event{at, func(r *Replay) { decided, _ = r.Take(Recorded{At: at, Failure: &f}) }})
			if e.Result != "none" {
				after := at.Add(300 * time.Millisecond)
				events = append(events, event{after, func(r *Replay) {
					res := heal.Result{Decision: decided, Outcome: heal.Outcome(cmp.Or(e.Result, string(heal.Skipped))), Reason: "Tested"}
					r.Take(Recorded{At: after, Result: &res})
				}})
			}
			if !e.Lasting {
				gone := at.Add(600 * time.Millisecond)
				events = append(events, event{gone, func(r *Replay) {
					over := f
					over.ResolvedAt = gone
					r.Take(Recorded{At: gone, Failure: &over})
				}})
			}
		}
	}
	slices.SortStableFunc(events, func(a, b event) int { return a.at.Compare(b.at) })
	r := NewReplay(ReplayConfig{Policy: p, Mode: c.Mode})
	for _, e := range events {
		e.happen(r)
	}
	f := c.Given.failure("e-given", now)
	v.Got, _ = r.Take(Recorded{At: now, Failure: &f})
	v.Wrong = c.Want.differs(v.Got)
	return v
}

func (w Want) differs(d heal.Decision) []Wrong {
	var wrong []Wrong
	check := func(what, got, want string) {
		if want != "" && got != want {
			wrong = append(wrong, Wrong{what, got, want})
		}
	}
	check("strategy", string(d.Strategy), string(w.Strategy))
	check("severity", string(d.Severity), string(w.Severity))
	check("mode", string(d.Mode), string(w.Mode))
	check("reason", d.Reason, w.Reason)
	check("rule", d.Policy.Rule, w.Rule)
	check("type", string(d.Type), string(w.Type))
	check("target", d.Target.String(), w.Target)
	check("cause", string(d.Cause.Kind), string(w.Cause))
	if w.Acts != nil {
		check("acts", fmt.Sprint(d.Acts()), fmt.Sprint(*w.Acts))
	}
	return wrong
}

// kind is what it is about: as it says, or else what failures of its type
// mostly are.
func (s Symptom) kind() string {
	if s.Kind != "" {
		return s.Kind
	}
	switch s.Type {
	case heal.NodeFailure:
		return "Node"
	case heal.ServiceFailure:
		return "Service"
	case heal.DeploymentFailure:
		return "Deployment"
	}
	return "Pod"
}

// other is the symptom of another pod of the same owner; of what has no owner
// it is the same.
func (s Symptom) other(name string) Symptom {
	if s.kind() == "Pod" {
		s.Name = name
	}
	return s
}

func (s Symptom) failure(episode string, at time.Time) heal.Failure {
	kind := s.kind()
	t := cmp.Or(s.Type, heal.PodFailure)
	target := heal.Target{APIVersion: apiVersion(kind), Kind: kind, Namespace: cmp.Or(s.Namespace, "shop"), Name: s.Name}
	if kind == "Node" {
		target.Namespace = ""
	}
	owner, ownerName, _ := strings.Cut(s.Owner, "/")
	if s.Owner == "" && kind == "Pod" {
		owner, ownerName = "Deployment", "checkout"
	}
	f := heal.Failure{
		Type: t, Reason: cmp.Or(s.Reason, "CrashLoopBackOff"), Severity: t.BaseSeverity(), Description: s.Description,
		Node: s.Node, Detector: cmp.Or(s.Detector, "test"), EpisodeID: episode, Occurrence: max(1, s.Occurrence),
		FirstSeen: at.Add(-time.Duration(s.Age)), Timestamp: heal.Unix{Time: at}, Metadata: s.Metadata,
	}
	if owner != "" {
		f.Owner = heal.Target{APIVersion: apiVersion(owner), Kind: owner, Namespace: target.Namespace, Name: ownerName, UID: "uid-" + ownerName}
	}
	if target.Name == "" {
		target.Name = cmp.Or(map[string]string{"Pod": ownerName + "-1", "Node": s.Node}[kind], "checkout")
	}
	if kind == "Node" {
		f.Node = target.Name
	}
	target.UID = "uid-" + strings.ReplaceAll(target.Name, ".", "-")
	f.Target, f.ResourceName, f.Namespace = target, target.Name, target.Namespace
	f.Fingerprint = heal.MakeFingerprint(t, f.Target, f.Owner, "", f.Reason)
	return f
}

func apiVersion(kind string) string {
	switch kind {
	case "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet":
		return "apps/v1"
	case "Job", "CronJob":
		return "batch/v1"
	}
	return "v1"
}
