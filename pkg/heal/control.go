package heal

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
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

// A decision's id is a token of the subject on which it is approved.
var decisionForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

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
	errs = append(errs, nonEmpty("by", a.By))
	if a.At.IsZero() {
		errs = append(errs, errors.New("at: is empty"))
	}
	return errors.Join(errs...)
}

// A Control pauses or resumes all acting on a cluster, or asks for a change to
// be taken back, or says what became of that.
type Control struct {
	Verb   string    `json:"verb"` // pause, resume, undo, undone
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"` // of undone: what was done, or why it was not
	At     time.Time `json:"at"`
	Until  time.Time `json:"until,omitzero"` // a pause ends by itself then

	DecisionID string  `json:"decision_id,omitempty"` // of undo and undone: whose change
	Outcome    Outcome `json:"outcome,omitempty"`     // of undone
}

// The verbs of Control.
const (
	Pause  = "pause"
	Resume = "resume"

	TakeBack  = "undo"   // what a decision changed
	TakenBack = "undone" // the actuator's answer to that
)

// Controls is every verb of Control.
var Controls = []string{Pause, Resume, TakeBack, TakenBack}

// Brakes reports whether the control is about acting as a whole.
func (c Control) Brakes() bool { return c.Verb == Pause || c.Verb == Resume }

// Head implements Payload.
func (c Control) Head() Head {
	of := []string{c.Verb, c.By, c.At.UTC().Format(time.RFC3339Nano)}
	if c.DecisionID != "" {
		of = append(of, c.DecisionID)
	}
	return Head{
		ID:    ID("c", of...),
		Type:  TypeControlChanged,
		Route: []string{"control", c.Verb},
		Cause: c.DecisionID,
	}
}

// Validate reports why the control cannot be obeyed.
func (c Control) Validate() error {
	errs := []error{known("verb", c.Verb, Controls), nonEmpty("by", c.By)}
	if !c.Brakes() && !decisionForm.MatchString(c.DecisionID) {
		errs = append(errs, fmt.Errorf("decision_id: %q is not a decision's id", Clean(c.DecisionID, 64)))
	}
	if c.Verb == TakenBack {
		errs = append(errs, known("outcome", c.Outcome, Outcomes))
	}
	if c.At.IsZero() {
		errs = append(errs, errors.New("at: is empty"))
	}
	return errors.Join(errs...)
}

// A DeadLetter holds a message that a stage gave up, and why.
type DeadLetter struct {
	Stage     string              `json:"stage"`  // the consumer that gave it up
	Reason    string              `json:"reason"` // BadMessage, Untrusted, Poison, Refused
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
	DeadUntrusted  = "Untrusted"  // nobody who is trusted signed it
	DeadPoison     = "Poison"     // delivered too often without being settled
	DeadRefused    = "Refused"    // the handler said that no attempt can help
)

// DeadReasons are all of them.
var DeadReasons = []string{DeadBadMessage, DeadUntrusted, DeadPoison, DeadRefused}

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
	errs := []error{known("reason", l.Reason, DeadReasons)}
	if !label.MatchString(l.Stage) {
		errs = append(errs, fmt.Errorf("stage: %q is not a consumer's name", Clean(l.Stage, 64)))
	}
	return errors.Join(errs...)
}

func (l DeadLetter) filled() DeadLetter {
	if l.Body == nil {
		l.Body = []byte{}
	}
	for k, v := range l.Headers {
		if v == nil {
			l.Headers = maps.Clone(l.Headers)
			l.Headers[k] = []string{}
		}
	}
	return l
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
	ms, sign := u.UnixMilli(), ""
	if ms < 0 {
		ms, sign = -ms, "-"
	}
	return fmt.Appendf(nil, "%s%d.%03d", sign, ms/1000, ms%1000), nil
}

// The year 1, which is no time at all, and the year 9999, the last that the
// messages' other times can be written in.
const firstUnix, lastUnix = -62135596800, 253402300799

// UnmarshalJSON reads seconds with or without decimals.
func (u *Unix) UnmarshalJSON(data []byte) error {
	var s float64
	if err := json.Unmarshal(data, &s); err != nil || string(data) == "null" || s < firstUnix || s > lastUnix {
		return fmt.Errorf("timestamp: want seconds since 1970, got %s", Clean(string(data), 32))
	}
	u.Time = time.UnixMilli(int64(math.Round(s * 1000))).UTC()
	return nil
}
