package heal

import (
	"errors"
	"fmt"
	"time"
)

// A Result says how a decision turned out. Every decision ends in exactly one.
type Result struct {
	Decision     Decision      `json:"decision"`
	Outcome      Outcome       `json:"outcome"`
	Reason       string        `json:"reason"`  // CamelCase, stable
	Message      string        `json:"message"` // one sentence, for people
	Attempt      int           `json:"attempt"` // which delivery of the decision ended it
	StartedAt    time.Time     `json:"started_at"`
	Duration     float64       `json:"duration_seconds"`
	Steps        []Step        `json:"steps"`
	Verification *Verification `json:"verification"` // nil when nothing was done that could be verified
	Undo         *Undo         `json:"undo"`         // nil when there is nothing to undo
	DryRun       bool          `json:"dry_run"`
	Evidence     *Kept         `json:"evidence,omitempty"` // nil when none was kept
}

// A Step is one request or wait of an action.
type Step struct {
	Name         string  `json:"name"`
	Status       string  `json:"status"` // ok, failed, skipped
	Milliseconds float64 `json:"milliseconds"`
	Detail       string  `json:"detail,omitempty"`
}

// The states of a step.
const (
	StepOK      = "ok"
	StepFailed  = "failed"
	StepSkipped = "skipped"
)

var stepStates = []string{StepOK, StepFailed, StepSkipped}

// A Verification is what was seen on the live cluster after the action.
type Verification struct {
	Passed bool    `json:"passed"`
	Checks []Check `json:"checks"`
}

// A Check is one condition of success.
type Check struct {
	Name     string `json:"name"`
	Passed   bool   `json:"passed"`
	Observed string `json:"observed"`
}

// An Undo tells how to take the change back by hand.
type Undo struct {
	Summary string `json:"summary"`
	Command string `json:"command,omitempty"`
}

// Kept says where it is kept what things looked like before they were changed.
type Kept struct {
	Bucket string `json:"bucket"` // a JetStream object store
	Object string `json:"object"`
	Bytes  int    `json:"bytes"`
}

// MakeResultID makes the one result of a decision.
func MakeResultID(decisionID string) string { return ID("r", decisionID) }

// Head implements Payload.
func (r Result) Head() Head {
	d := r.Decision
	return Head{
		ID:       MakeResultID(d.ID),
		Type:     TypeActionCompleted,
		Route:    append([]string{"results", string(d.Type), string(d.Strategy), string(r.Outcome)}, d.Target.tokens()...),
		Target:   d.Target,
		Incident: d.IncidentID,
		Cause:    d.ID,
		Severity: d.Severity,
	}
}

// Validate reports why the result cannot be told.
func (r Result) Validate() error {
	errs := []error{known("outcome", r.Outcome, Outcomes), nonEmpty("reason", r.Reason)}
	if r.Attempt < 0 {
		errs = append(errs, fmt.Errorf("attempt: %d is less than 0", r.Attempt))
	}
	if r.Duration < 0 {
		errs = append(errs, fmt.Errorf("duration_seconds: %g is less than 0", r.Duration))
	}
	for i, s := range r.Steps {
		errs = append(errs, known(fmt.Sprintf("steps[%d].status", i), s.Status, stepStates))
	}
	if err := r.Decision.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("decision: %w", err))
	}
	return errors.Join(errs...)
}

func (r Result) filled() Result {
	if r.Steps == nil {
		r.Steps = []Step{}
	}
	if r.Verification != nil && r.Verification.Checks == nil {
		r.Verification = &Verification{Passed: r.Verification.Passed, Checks: []Check{}}
	}
	r.Decision = r.Decision.filled()
	return r
}
