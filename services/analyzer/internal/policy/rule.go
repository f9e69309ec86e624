package policy

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Rule departs from the tables for failures that it matches. The first one
// that matches counts; what it does not say stays as it is.
type Rule struct {
	Name     string        `json:"name"`
	Match    string        `json:"match,omitempty"`  // CEL over failure, history, cause, node, workload and time; none: every failure
	Window   *Window       `json:"window,omitempty"` // when it counts; none: always
	Severity heal.Severity `json:"severity,omitempty"`
	Strategy heal.Strategy `json:"strategy,omitempty"`
	Mode     heal.Mode     `json:"mode,omitempty"`   // only ever tightens
	Budget   *Budget       `json:"budget,omitempty"` // none: only the guards' limits
}

// A Budget bounds what is done because of one rule, in the whole cluster.
type Budget struct {
	Actions int      `json:"actions"` // decisions that act
	Per     Duration `json:"per"`
}

// String is the budget as people say it: 3 actions in 1h0m0s.
func (b Budget) String() string {
	if b.Actions == 1 {
		return "1 action in " + b.Per.String()
	}
	return fmt.Sprintf("%d actions in %s", b.Actions, b.Per)
}

// A Matter is what rules are asked about.
type Matter struct {
	Failure  heal.Failure
	Severity heal.Severity // by the tables
	Similar  int
	Failed   int // tries in a row that did not help
	Cause    heal.Cause
	Node     Node
	Workload Workload
	Now      time.Time
}

// A Node is what is known of the node that a failure is on, or about.
type Node struct {
	Failing bool // it fails itself
	Owners  int  // of pods that fail on it
}

// A Workload is what is known of the owner of what fails.
type Workload struct {
	Failing int // episodes of its pods that are going on
}

// What expressions see of a Matter. The names in the tags are the policy
// language: they are documented in docs/policy.md and never change their meaning.
type (
	matchFailure struct {
		Type        string            `cel:"type"`
		Reason      string            `cel:"reason"`
		Severity    string            `cel:"severity"`
		Kind        string            `cel:"kind"`
		Namespace   string            `cel:"namespace"`
		Name        string            `cel:"name"`
		OwnerKind   string            `cel:"owner_kind"`
		OwnerName   string            `cel:"owner_name"`
		Node        string            `cel:"node"`
		Detector    string            `cel:"detector"`
		Description string            `cel:"description"`
		Occurrence  int64             `cel:"occurrence"`
		Age         time.Duration     `cel:"age"`
		Metadata    map[string]string `cel:"metadata"`
	}
	matchHistory struct {
		Similar int64 `cel:"similar"`
		Failed  int64 `cel:"failed"`
	}
	matchCause struct {
		Kind       string   `cel:"kind"`
		Confidence float64  `cel:"confidence"`
		Evidence   []string `cel:"evidence"`
	}
	matchNode struct {
		Name          string `cel:"name"`
		Failing       bool   `cel:"failing"`
		FailingOwners int64  `cel:"failing_owners"`
		Nodes         int64  `cel:"nodes"`
		NotReady      int64  `cel:"not_ready"`
	}
	matchWorkload struct {
		Kind           string `cel:"kind"`
		Namespace      string `cel:"namespace"`
		Name           string `cel:"name"`
		FailingPods    int64  `cel:"failing_pods"`
		Available      int64  `cel:"available"`
		Updated        int64  `cel:"updated"`
		Revision       string `cel:"revision"`
		NewestRevision string `cel:"newest_revision"`
	}
)

// unsaid stands for a number that the watcher does not tell.
const unsaid = -1

const (
	maxRules     = 200
	maxMatch     = 2000
	maxMatchCost = 10_000 // of evaluating one expression; what is longer is refused
)

func environment() (*cel.Env, error) {
	return cel.NewEnv(
		ext.NativeTypes(ext.ParseStructTags(true),
			reflect.TypeFor[matchFailure](), reflect.TypeFor[matchHistory](), reflect.TypeFor[matchCause](),
			reflect.TypeFor[matchNode](), reflect.TypeFor[matchWorkload]()),
		ext.Strings(),
		cel.Variable("failure", cel.ObjectType("policy.matchFailure")),
		cel.Variable("history", cel.ObjectType("policy.matchHistory")),
		cel.Variable("cause", cel.ObjectType("policy.matchCause")),
		cel.Variable("node", cel.ObjectType("policy.matchNode")),
		cel.Variable("workload", cel.ObjectType("policy.matchWorkload")),
		cel.Variable("time", cel.TimestampType),
	)
}

// A compiled rule is ready to be asked. A nil program matches everything.
type compiled struct {
	Rule
	program cel.Program
}

// compile turns rules into programs, or says what is wrong with each.
func compile(rules []Rule) ([]compiled, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	var errs []error
	all := make([]compiled, len(rules))
	for i, r := range rules {
		all[i].Rule = r
		if r.Match == "" {
			continue
		}
		if all[i].program, err = program(env, r.Match); err != nil {
			errs = append(errs, fmt.Errorf("rules[%d].match: %w", i, err))
		}
	}
	return all, errors.Join(errs...)
}

func program(env *cel.Env, match string) (cel.Program, error) {
	if len(match) > maxMatch {
		return nil, fmt.Errorf("is %d characters long; want at most %d", len(match), maxMatch)
	}
	ast, issues := env.Compile(match)
	if issues.Err() != nil {
		var parts []string
		for _, e := range issues.Errors() {
			text := heal.Clean(e.Message, 200)
			parts = append(parts, fmt.Sprintf("column %d: %s%s", e.Location.Column()+1, text, meant(text)))
		}
		return nil, errors.New(strings.Join(parts, "; "))
	}
	if ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("is %s; want true or false", ast.OutputType())
	}
	return env.Program(ast, cel.CostLimit(maxMatchCost), cel.InterruptCheckFrequency(100))
}

// words of an expression that a typing error can be meant to be.
var words = []string{
	"failure", "history", "cause", "node", "workload", "time",
	"type", "reason", "severity", "kind", "namespace", "name", "owner_kind", "owner_name", "node", "detector", "description", "occurrence", "age", "metadata",
	"similar", "failed", "confidence", "evidence",
	"failing", "failing_owners", "nodes", "not_ready", "failing_pods", "available", "updated", "revision", "newest_revision",
}

var unknownWord = regexp.MustCompile(`undefined field '([^']+)'|undeclared reference to '([^']+)'`)

func meant(message string) string {
	m := unknownWord.FindStringSubmatch(message)
	if m == nil {
		return ""
	}
	return didYouMean(m[1]+m[2], words)
}

// A Ruling is what the rules say about a matter.
type Ruling struct {
	Rule
	Note string // a clause, if the rule could not be asked properly
}

// Ruling asks the rules. It reports false if none counts. A rule that cannot
// be evaluated counts if all that it does is to make us more careful.
func (p Policy) Ruling(m Matter) (Ruling, bool) {
	var input map[string]any
	for _, r := range p.rules {
		if r.Window != nil && !r.Window.Contains(m.Now) {
			continue
		}
		if r.program == nil {
			return Ruling{Rule: r.Rule}, true
		}
		if input == nil {
			input = m.variables()
		}
		value, _, err := r.program.Eval(input)
		if err != nil {
			if r.careful() {
				return Ruling{Rule: r.Rule, Note: "it could not be evaluated (" + heal.Clean(err.Error(), 120) + "), and counts as it makes us more careful"}, true
			}
			continue
		}
		if matches, ok := value.Value().(bool); ok && matches {
			return Ruling{Rule: r.Rule}, true
		}
	}
	return Ruling{}, false
}

func (r Rule) careful() bool {
	return r.Severity == "" && (r.Strategy == "" || r.Strategy == heal.Monitor)
}

func (m Matter) variables() map[string]any {
	f := m.Failure
	metadata := f.Metadata
	if metadata == nil {
		metadata = map[string]string{}
	}
	number := func(key string) int64 {
		n, err := strconv.ParseInt(metadata[key], 10, 32)
		if err != nil || n < 0 {
			return unsaid
		}
		return n
	}
	owner := f.Affected()
	return map[string]any{
		"node": &matchNode{
			Name: f.Node, Failing: m.Node.Failing, FailingOwners: int64(m.Node.Owners),
			Nodes: number("nodes"), NotReady: number("nodes_not_ready"),
		},
		"workload": &matchWorkload{
			Kind: owner.Kind, Namespace: owner.Namespace, Name: owner.Name, FailingPods: int64(m.Workload.Failing),
			Available: number("workload_available"), Updated: number("workload_updated"),
			Revision: metadata["revision"], NewestRevision: metadata["newest_revision"],
		},
		"failure": &matchFailure{
			Type: string(f.Type), Reason: f.Reason, Severity: string(m.Severity),
			Kind: f.Target.Kind, Namespace: f.Target.Namespace, Name: f.Target.Name,
			OwnerKind: f.Owner.Kind, OwnerName: f.Owner.Name, Node: f.Node, Detector: f.Detector,
			Description: f.Description, Occurrence: int64(f.Occurrence), Age: max(0, m.Now.Sub(f.FirstSeen)), Metadata: metadata,
		},
		"history": &matchHistory{Similar: int64(m.Similar), Failed: int64(m.Failed)},
		"cause":   &matchCause{Kind: string(m.Cause.Kind), Confidence: m.Cause.Confidence, Evidence: m.Cause.Evidence},
		"time":    m.Now,
	}
}

// check says what is wrong with the rule, but for its expression.
func (r Rule) check(field string) error {
	var errs []error
	if r.Name == "" || len(r.Name) > maxName || r.Name != heal.Clean(r.Name, maxName) {
		errs = append(errs, fmt.Errorf("%s.name: %q is not 1 to %d printable characters", field, heal.Clean(r.Name, maxName), maxName))
	}
	if r.Severity == "" && r.Strategy == "" && r.Mode == "" && r.Budget == nil {
		errs = append(errs, fmt.Errorf("%s: says nothing; want a severity, a strategy, a mode or a budget", field))
	}
	if r.Severity != "" {
		errs = append(errs, OneOf(field+".severity", r.Severity, heal.Severities))
	}
	if r.Strategy != "" {
		errs = append(errs, OneOf(field+".strategy", r.Strategy, heal.Strategies))
	}
	if r.Mode != "" {
		errs = append(errs, OneOf(field+".mode", r.Mode, heal.Modes))
	}
	if r.Window != nil {
		errs = append(errs, r.Window.check(field+".window"))
	}
	if r.Budget != nil {
		errs = append(errs, r.Budget.check(field+".budget"))
	}
	return errors.Join(errs...)
}

func (b Budget) check(field string) error {
	var errs []error
	if b.Actions < 1 || b.Actions > maxBudget {
		errs = append(errs, fmt.Errorf("%s.actions: %d is out of bounds; want 1 to %d (mode observe is for none)", field, b.Actions, maxBudget))
	}
	if per := time.Duration(b.Per); per < minPer || per > maxPer {
		errs = append(errs, fmt.Errorf("%s.per: %s is out of bounds; want %s to %s", field, per, minPer, maxPer))
	}
	return errors.Join(errs...)
}
