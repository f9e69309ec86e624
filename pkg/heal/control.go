package heal

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// An Approval is a person's answer to a decision made in mode approve.
type Approval struct {
	DecisionID string    `json:"decision_id"`
	Approved   bool      `json:"approved"`
	By         string    `json:"by"`
	Reason     string    `json:"reason,omitempty"`
	At         time.Time `json:"at"`
}

var decisionForm = regexp.MustCompile(`^d-[0-9a-v]{24}$`)

// Head implements Payload.
func (a Approval) Head() Head {
	return Head{
		ID:    ID("a", a.DecisionID, a.By, fmt.Sprint(a.Approved), a.At.UTC().Format(time.RFC3339Nano)),
		Type:  TypeApprovalGiven,
		Route: []string{"approvals", a.DecisionID},
		Cause: a.DecisionID,
	}
}

// Validate reports why the approval cannot count.
func (a Approval) Validate() error {
	var errs []error
	if !decisionForm.MatchString(a.DecisionID) {
		errs = append(errs, fmt.Errorf("decision_id: %q is not a decision's id", Clean(a.DecisionID, 64)))
	}
	if a.By == "" {
		errs = append(errs, errors.New("by: is empty"))
	}
	if a.At.IsZero() {
		errs = append(errs, errors.New("at: is empty"))
	}
	return errors.Join(errs...)
}

// A Control pauses or resumes all acting on a cluster.
type Control struct {
	Verb   string    `json:"verb"` // pause, resume
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until,omitzero"` // a pause ends by itself then
}

// The verbs of Control.
const (
	Pause  = "pause"
	Resume = "resume"
)

// Head implements Payload.
func (c Control) Head() Head {
	return Head{
		ID:    ID("c", c.Verb, c.By, c.At.UTC().Format(time.RFC3339Nano)),
		Type:  TypeControlChanged,
		Route: []string{"control", c.Verb},
	}
}

// Validate reports why the control cannot be obeyed.
func (c Control) Validate() error {
	errs := []error{known("verb", c.Verb, []string{Pause, Resume})}
	if c.By == "" {
		errs = append(errs, errors.New("by: is empty"))
	}
	if c.At.IsZero() {
		errs = append(errs, errors.New("at: is empty"))
	}
	return errors.Join(errs...)
}

// A DeadLetter holds a message that a stage gave up, and why.
type DeadLetter struct {
	Stage     string              `json:"stage"`  // the consumer that gave it up
	Reason    string              `json:"reason"` // BadMessage, Poison, Refused
	Error     string              `json:"error"`
	Stream    string              `json:"stream"`
	Subject   string              `json:"subject"`
	Sequence  uint64              `json:"sequence"`
	Delivered uint64              `json:"delivered"`
	Headers   map[string][]string `json:"headers,omitempty"`
	Body      []byte              `json:"body"`                // as it came, base64
	Truncated bool                `json:"truncated,omitempty"` // Body was too long to keep whole
}

// Reasons of dead letters.
const (
	DeadBadMessage = "BadMessage" // does not decode, validate or belong here
	DeadPoison     = "Poison"     // delivered too often without being settled
	DeadRefused    = "Refused"    // the handler said that no attempt can help
)

// Head implements Payload.
func (l DeadLetter) Head() Head {
	return Head{
		ID:    ID("x", l.Stage, l.Stream, fmt.Sprint(l.Sequence)),
		Type:  TypeMessageDead,
		Route: []string{"dlq", Token(l.Stage)},
	}
}

// Validate reports why the dead letter cannot be kept.
func (l DeadLetter) Validate() error {
	return errors.Join(
		known("reason", l.Reason, []string{DeadBadMessage, DeadPoison, DeadRefused}),
		nonEmpty("stage", l.Stage),
	)
}

func nonEmpty(field, v string) error {
	if v == "" {
		return fmt.Errorf("%s: is empty", field)
	}
	return nil
}

// Unix is a time written as seconds since 1970 with milliseconds, the form
// that the contract gives a failure's timestamp.
type Unix struct{ time.Time }

// MarshalJSON writes seconds with three decimals.
func (u Unix) MarshalJSON() ([]byte, error) {
	ms := u.UnixMilli()
	return fmt.Appendf(nil, "%d.%03d", ms/1000, ms%1000), nil
}

// UnmarshalJSON reads seconds with or without decimals.
func (u *Unix) UnmarshalJSON(data []byte) error {
	var s float64
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("timestamp: want seconds since 1970, got %s", Clean(string(data), 32))
	}
	u.Time = time.UnixMilli(int64(s*1000 + 0.5)).UTC()
	return nil
}
