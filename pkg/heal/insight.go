package heal

import (
	"errors"
	"fmt"
	"time"
)

// An Inquiry asks the analyzer what it makes of an object, or of an incident.
type Inquiry struct {
	Kind      string   `json:"kind,omitempty"` // Deployment; of an object
	Namespace string   `json:"namespace,omitempty"`
	Name      string   `json:"name,omitempty"`
	Incident  string   `json:"incident,omitempty"` // instead of an object
	WhyNot    Strategy `json:"why_not,omitempty"`  // also say why this is not done
}

// Object is what is asked about, as Target.String has it.
func (q Inquiry) Object() string {
	return Target{Kind: q.Kind, Namespace: q.Namespace, Name: q.Name}.String()
}

// Validate reports why the inquiry cannot be answered.
func (q Inquiry) Validate() error {
	if q.WhyNot != "" {
		if err := known("why_not", q.WhyNot, Strategies); err != nil {
			return err
		}
	}
	switch {
	case q.Incident != "" && (q.Kind != "" || q.Name != ""):
		return errors.New("incident, and kind and name: give one of them")
	case q.Incident != "":
		return nil
	case !kindName.MatchString(q.Kind):
		return fmt.Errorf("kind: %q is not a Kubernetes kind", Clean(q.Kind, 64))
	case len(q.Name) > 253 || !subdomain.MatchString(q.Name):
		return fmt.Errorf("name: %q is not a DNS-1123 subdomain", Clean(q.Name, 64))
	case q.Namespace != "" && (len(q.Namespace) > 63 || !label.MatchString(q.Namespace)):
		return fmt.Errorf("namespace: %q is not a DNS-1123 label", Clean(q.Namespace, 64))
	}
	return nil
}

// An Insight is the answer to an Inquiry: all of it from what the analyzer
// remembers, and from judging that anew by the same code that decides.
type Insight struct {
	Inquiry   Inquiry    `json:"inquiry"`
	At        time.Time  `json:"at"`
	Summary   string     `json:"summary"` // one sentence
	Mode      Mode       `json:"mode"`
	Policy    PolicyRef  `json:"policy"`
	Clear     bool       `json:"clear"`    // the watchers see clearly
	Sight     string     `json:"sight"`    // how well they do, in words
	Troubles  []Trouble  `json:"troubles"` // what fails first
	Followers []Follower `json:"followers"`
}

// A Trouble is all that is known of one type and reason of failure of an object.
type Trouble struct {
	Object      string      `json:"object"` // shop/Deployment/checkout
	Type        FailureType `json:"type"`
	Reason      string      `json:"reason"`
	Incident    string      `json:"incident"`
	Since       time.Time   `json:"since,omitzero"`
	Open        int         `json:"open"`               // episodes that are going on: as many pods, mostly
	Similar     int         `json:"similar"`            // failures within the policy's window
	FailedTries int         `json:"failed_tries"`       // in a row
	Waits       string      `json:"waits,omitempty"`    // the dependency that it waits for
	Root        *Root       `json:"root,omitempty"`     // what it follows from
	Last        *Failure    `json:"last,omitempty"`     // announcement
	Cause       Cause       `json:"cause"`              // as it looks now
	Course      []Deed      `json:"course"`             // what was decided and what came of it, oldest first
	UnderWay    *Deed       `json:"under_way"`          // nil while no result is awaited
	Now         *Decision   `json:"now"`                // what would be decided now; nil if nothing fails
	Ladder      []Rung      `json:"ladder"`             // every strategy of the type, and why it is not chosen
	Tried       []Try       `json:"tried"`              // what is remembered of them
	NextLook    time.Time   `json:"next_look,omitzero"` // at the latest
	NextWhy     string      `json:"next_why"`
	WhyNot      string      `json:"why_not,omitempty"` // what was asked for
}

// A Root is the failure that a trouble follows from, and that is acted upon
// instead.
type Root struct {
	Object   string `json:"object"`
	Reason   string `json:"reason"`
	Incident string `json:"incident"`
	Why      string `json:"why"`
}

// A Follower is what follows from what was asked about.
type Follower struct {
	Object   string    `json:"object"`
	Reason   string    `json:"reason"`
	Incident string    `json:"incident"`
	Since    time.Time `json:"since,omitzero"`
}

// A Deed is a decision and what came of it.
type Deed struct {
	DecisionID string    `json:"decision_id"`
	At         time.Time `json:"at"`              // of the last of them
	Times      int       `json:"times,omitempty"` // that the same was decided in a row; 0 is once
	Strategy   Strategy  `json:"strategy"`
	Severity   Severity  `json:"severity"`
	Mode       Mode      `json:"mode"`
	Reason     string    `json:"reason"`
	Acts       bool      `json:"acts"`
	Until      time.Time `json:"until,omitzero"`    // of one that acts: when its result is not awaited any longer
	Ended      time.Time `json:"ended,omitzero"`    // of one that acts
	Outcome    Outcome   `json:"outcome,omitempty"` // the same
	Result     string    `json:"result,omitempty"`  // its reason
	Message    string    `json:"message,omitempty"` // and in words
}

// A Rung is one strategy of a ladder.
type Rung struct {
	Strategy Strategy `json:"strategy"`
	Chosen   bool     `json:"chosen"`
	Why      string   `json:"why"`
}

// A Try is how often a strategy helped against a cause; what is old counts less.
type Try struct {
	Cause    CauseKind `json:"cause"`
	Strategy Strategy  `json:"strategy"`
	Helped   float64   `json:"helped"`
	Failed   float64   `json:"failed"`
}
