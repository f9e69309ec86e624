package heal

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// A Decision says what to do about one occurrence of a failure, and why.
// Doing nothing is a decision too: strategy Monitor, or the strategy that the
// table gave with a reason why it is not carried out.
type Decision struct {
	ID              string      `json:"decision_id"`
	IncidentID      string      `json:"incident_id"`
	Type            FailureType `json:"type"`
	Severity        Severity    `json:"severity"`
	BaseSeverity    Severity    `json:"base_severity"`
	SimilarFailures int         `json:"similar_failures"` // in the window, this one not counted

	Strategy   Strategy          `json:"strategy"`
	ActionType string            `json:"action_type"`
	Mode       Mode              `json:"mode"`
	Reason     string            `json:"reason"` // CamelCase, stable: what decided
	Expires    time.Time         `json:"expires"`
	Target     Target            `json:"target"`
	Parameters map[string]string `json:"parameters"`

	Cause       Cause       `json:"cause"`
	Policy      PolicyRef   `json:"policy"`
	Guards      []Verdict   `json:"guards"`
	Explanation Explanation `json:"explanation"`
	Failure     Failure     `json:"failure"`
}

// A CauseKind is the sort of thing that broke the target.
type CauseKind string

// The causes.
const (
	CauseUnknown    CauseKind = "unknown"
	CauseRollout    CauseKind = "rollout"
	CauseNode       CauseKind = "node"
	CauseDependency CauseKind = "dependency"
	CauseConfig     CauseKind = "config"
	CauseRegistry   CauseKind = "registry"
	CauseCapacity   CauseKind = "capacity"
)

// CauseKinds is every cause.
var CauseKinds = []CauseKind{CauseUnknown, CauseRollout, CauseNode, CauseDependency, CauseConfig, CauseRegistry, CauseCapacity}

// A Cause is why the target is broken, as far as that is known.
type Cause struct {
	Kind       CauseKind `json:"kind"`
	Evidence   []string  `json:"evidence,omitempty"`
	Confidence float64   `json:"confidence,omitempty"` // 0…1
}

// A PolicyRef names the rule that gave the strategy, and the exact policy.
type PolicyRef struct {
	Name     string `json:"name"`
	Revision string `json:"revision"` // sha256 of the policy document
	Rule     string `json:"rule"`
}

// A Verdict is what one guard said.
type Verdict struct {
	Name    string `json:"name"`
	Allowed bool   `json:"allowed"`
	Reason  string `json:"reason,omitempty"` // CamelCase, stable; only of a veto
	Detail  string `json:"detail"`           // one sentence with the numbers
}

// An Explanation lets a person follow the decision without the code.
type Explanation struct {
	Summary string   `json:"summary"`
	Steps   []string `json:"steps"`
}

// Reasons of decisions, and of results that did nothing, that more than one package must recognise.
const (
	ReasonSeverityTable    = "SeverityTable"    // the strategy is the table's, to be carried out
	ReasonRecoveryUnderWay = "RecoveryUnderWay" // an earlier decision about it has not ended yet
	ReasonSuperseded       = "Superseded"       // overtaken by a newer announcement, or by the failure's end
	ReasonRecovered        = "Recovered"        // the symptom went away by itself
	ReasonGivenUp          = "GivenUp"          // several tries did not help: a person must look
	ReasonFollowsIncident  = "FollowsIncident"  // it follows from another failure, which is acted upon instead
)

// MakeDecisionID makes the one decision about an occurrence: deciding twice,
// or in two replicas, is deciding once.
func MakeDecisionID(f Failure) string { return ID("d", f.EventID()) }

// Acts reports whether the decision asks for a change of the cluster.
func (d Decision) Acts() bool {
	return d.Strategy != Monitor && (d.Mode == ModeAuto || d.Mode == ModeApprove) && !d.Vetoed()
}

// Vetoed reports whether a guard refused the strategy.
func (d Decision) Vetoed() bool {
	for _, v := range d.Guards {
		if !v.Allowed {
			return true
		}
	}
	return false
}

// Head implements Payload.
func (d Decision) Head() Head {
	return Head{
		ID:       d.ID,
		Type:     TypeDecisionMade,
		Route:    append([]string{"decisions", string(d.Type), string(d.Strategy), string(d.Severity)}, d.Target.tokens()...),
		Target:   d.Target,
		Incident: d.IncidentID,
		Cause:    cmp.Or(d.Failure.Envelope.ID, d.Failure.EventID()),
		Severity: d.Severity,
		Expires:  d.Expires,
	}
}

// Validate reports why the decision cannot be carried out.
func (d Decision) Validate() error {
	errs := []error{
		known("type", d.Type, FailureTypes),
		known("severity", d.Severity, Severities),
		known("base_severity", d.BaseSeverity, Severities),
		known("strategy", d.Strategy, Strategies),
		known("mode", d.Mode, Modes),
		known("cause.kind", d.Cause.Kind, CauseKinds),
		d.Target.Validate("target"),
	}
	if !decisionForm.MatchString(d.ID) {
		errs = append(errs, fmt.Errorf("decision_id: %q is not an id of 1 to 64 letters, digits, - and _", Clean(d.ID, 64)))
	}
	errs = append(errs, nonEmpty("incident_id", d.IncidentID), nonEmpty("reason", d.Reason))
	if d.Expires.IsZero() {
		errs = append(errs, errors.New("expires: is empty"))
	}
	if d.SimilarFailures < 0 {
		errs = append(errs, fmt.Errorf("similar_failures: %d is less than 0", d.SimilarFailures))
	}
	if c := d.Cause.Confidence; c < 0 || c > 1 {
		errs = append(errs, fmt.Errorf("cause.confidence: %g is not between 0 and 1", c))
	}
	if !d.Target.Same(d.Failure.Target) && !d.Target.Same(d.Failure.Owner) {
		errs = append(errs, fmt.Errorf("target: %s is neither the failure's target nor its owner", d.Target))
	}
	if err := d.Failure.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("failure: %w", err))
	}
	return errors.Join(errs...)
}

func (d Decision) filled() Decision {
	if d.Parameters == nil {
		d.Parameters = map[string]string{}
	}
	if d.Guards == nil {
		d.Guards = []Verdict{}
	}
	if d.Explanation.Steps == nil {
		d.Explanation.Steps = []string{}
	}
	d.Failure = d.Failure.filled()
	return d
}
