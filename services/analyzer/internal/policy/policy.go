// Package policy holds what an operator can choose about judging failures:
// the tables of severity and strategy and the limits of the guards, as one
// YAML document, and the sentences that explain a judgement. It touches
// nothing but its arguments.
//
// A Policy that Parse returned is complete and within bounds, and never
// changes: it may be used by many goroutines at once.
//
// To add a reason to depart from the table (a refinement), write it in a file
// of its own and list it in refine.go; nothing else changes.
package policy

import (
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Document is a policy as it is written.
type Document struct {
	Name     string                                               `json:"name"`
	Similar  Similar                                              `json:"similar"`
	Severity map[heal.FailureType]heal.Severity                   `json:"severity"`
	Strategy map[heal.FailureType]map[heal.Severity]heal.Strategy `json:"strategy"`
	Rules    []Rule                                               `json:"rules,omitempty"`
	Guards   Guards                                               `json:"guards"`
}

// Similar says which failures are similar, and what many of them mean.
type Similar struct {
	Window     Duration    `json:"window"`
	Thresholds []Threshold `json:"thresholds"`
}

// A Threshold raises the severity of a failure that has more than so many similar ones.
type Threshold struct {
	MoreThan int           `json:"more_than"`
	AtLeast  heal.Severity `json:"at_least"`
}

// Guards are the limits that the guards keep.
type Guards struct {
	ProtectedNamespaces []string `json:"protected_namespaces"` // besides those that always are
	Backoff             Backoff  `json:"backoff"`
	GiveUp              GiveUp   `json:"give_up"`
	ActionsPerMinute    int      `json:"actions_per_minute"` // of one analyzer
	Oldest              Duration `json:"oldest"`             // announcement that is acted upon
	Storm               Storm    `json:"storm"`

	Maintenance []Maintenance `json:"maintenance,omitempty"`
}

// Storm is when so many nodes fail at once that it is not about one of them.
type Storm struct {
	Share    float64  `json:"share"`    // of the nodes, that may; one node always may
	Cooldown Duration `json:"cooldown"` // a node that is well again counts for so long still
}

// Backoff is the rest after a failed try: First, doubling up to Longest.
type Backoff struct {
	First   Duration `json:"first"`
	Longest Duration `json:"longest"`
}

// After is the rest after n failed tries in a row.
func (b Backoff) After(n int) time.Duration {
	rest, longest := time.Duration(b.First), time.Duration(b.Longest)
	for range n - 1 {
		if rest *= 2; rest >= longest {
			return longest
		}
	}
	return rest
}

// GiveUp blocks a fingerprint For a while After so many failed tries in a row.
type GiveUp struct {
	After int      `json:"after"`
	For   Duration `json:"for"`
}

// A Duration is written as seconds (30) or with a unit (30s, 1h30m).
type Duration time.Duration

// String is the duration as Go prints it: 1h0m0s.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON writes the duration with its unit.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads either form.
func (d *Duration) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		*d = Duration(time.Duration(seconds) * time.Second)
		return nil
	}
	parsed, err := time.ParseDuration(text)
	if err != nil {
		return fmt.Errorf(`%s is not a duration; want seconds, or a number with a unit such as "90s"`, heal.Clean(string(data), 64))
	}
	*d = Duration(parsed)
	return nil
}

// A Policy is a document in force.
type Policy struct {
	doc      Document
	rules    []compiled
	revision string
}

//go:embed builtin.yaml
var builtin string

// Builtin is the policy of the contract.
func Builtin() (Policy, error) {
	var doc Document
	if err := Read([]byte(builtin), &doc); err != nil {
		return Policy{}, fmt.Errorf("built-in policy: %w", err)
	}
	return enact(doc)
}

// Parse reads a policy document. What it does not say is as in the built-in one.
func Parse(data []byte) (Policy, error) {
	base, err := Builtin()
	if err != nil {
		return Policy{}, err
	}
	own := Document{Name: "custom", Similar: base.doc.Similar, Guards: base.doc.Guards}
	own.Similar.Thresholds = nil // else a threshold without at_least would keep the built-in one's
	if err := Read(data, &own); err != nil {
		return Policy{}, err
	}
	if own.Similar.Thresholds == nil {
		own.Similar.Thresholds = base.doc.Similar.Thresholds
	}
	p, err := enact(own.over(base.doc))
	return p, linesOf(data).locate(err)
}

// over fills the gaps of d's tables with base's.
func (d Document) over(base Document) Document {
	severity := maps.Clone(base.Severity)
	maps.Copy(severity, d.Severity)
	strategy := map[heal.FailureType]map[heal.Severity]heal.Strategy{}
	for t, row := range base.Strategy {
		strategy[t] = maps.Clone(row)
	}
	for t, row := range d.Strategy {
		if strategy[t] == nil {
			strategy[t] = map[heal.Severity]heal.Strategy{} // of an unknown type; check says so
		}
		maps.Copy(strategy[t], row)
	}
	d.Severity, d.Strategy = severity, strategy
	return d
}

// enact returns the policy that doc is, if it is a good one.
func enact(doc Document) (Policy, error) {
	rules, err := compile(doc.Rules)
	if err := errors.Join(doc.check(), err); err != nil {
		return Policy{}, err
	}
	// Maps are written in the order of their keys, so the same policy has the
	// same revision however its document was written.
	canonical, err := json.Marshal(doc)
	if err != nil {
		return Policy{}, fmt.Errorf("policy %q: %w", doc.Name, err)
	}
	sum := sha256.Sum256(canonical)
	return Policy{doc: doc, rules: rules, revision: "sha256:" + hex.EncodeToString(sum[:])}, nil
}

// Document is all that the policy says, as JSON, which is YAML too. To Parse it
// gives the same policy, with the same revision.
func (p Policy) Document() json.RawMessage {
	data, err := json.Marshal(p.doc)
	if err != nil {
		return nil // it was written once already, for the revision
	}
	return data
}

// Window is how far apart similar failures may be.
func (p Policy) Window() time.Duration { return time.Duration(p.doc.Similar.Window) }

// Guards are the guards' limits.
func (p Policy) Guards() Guards { return p.doc.Guards }

// Ref names a rule of the policy.
func (p Policy) Ref(rule string) heal.PolicyRef {
	return heal.PolicyRef{Name: p.doc.Name, Revision: p.revision, Rule: rule}
}

// Severity is what a failure weighs by itself, and with so many similar ones.
func (p Policy) Severity(t heal.FailureType, similar int) (base, severity heal.Severity) {
	base = p.doc.Severity[t]
	severity = base
	for _, threshold := range p.doc.Similar.Thresholds {
		if similar > threshold.MoreThan {
			severity = severity.AtLeast(threshold.AtLeast)
		}
	}
	return base, severity
}

// SeverityOf is Severity of a failure, but for one that is only a record: that
// is low. Instead is the severity of its type then; empty otherwise.
func (p Policy) SeverityOf(f heal.Failure, similar int) (base, severity, instead heal.Severity) {
	base, severity = p.Severity(f.Type, similar)
	if base != heal.Low && isRecord(f) {
		return heal.Low, heal.Low, base
	}
	return base, severity, ""
}

// Strategy is what the table says, and the name of the rule that says so.
func (p Policy) Strategy(t heal.FailureType, s heal.Severity) (strategy heal.Strategy, rule string) {
	return p.doc.Strategy[t][s], string(t) + "/" + string(s)
}
