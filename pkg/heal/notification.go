package heal

import (
	"errors"
	"fmt"
	"time"
)

// A Notification asks for one change of an incident to be told on one channel.
type Notification struct {
	Channel  string            `json:"channel"`            // slack, webhook, …
	To       string            `json:"to,omitempty"`       // where on the channel: "#incidents"
	Severity Severity          `json:"severity"`           // of the incident, for routing and lanes
	Result   Result            `json:"result"`             // what is told
	Origin   Origin            `json:"origin,omitzero"`    // of the result's event
	Metadata map[string]string `json:"metadata,omitempty"` // links and the like
}

// An Origin is what a result's event says that does not follow from its data.
// With it a channel can pass the event on as it was, and knows how old the
// news is.
type Origin struct {
	ID            string    `json:"id"`
	Source        string    `json:"source"`
	Time          time.Time `json:"time"`
	CorrelationID string    `json:"correlationid,omitempty"`
	CausationID   string    `json:"causationid,omitempty"`
	TraceParent   string    `json:"traceparent,omitempty"`
	Stored        time.Time `json:"stored"` // when the stream took it, by the server's clock
}

// MakeOrigin remembers what e says beyond its data.
func MakeOrigin(e Event[Result], stored time.Time) Origin {
	return Origin{
		ID: e.ID, Source: e.Source, Time: e.Time,
		CorrelationID: e.CorrelationID, CausationID: e.CausationID, TraceParent: e.TraceParent,
		Stored: stored.UTC(),
	}
}

// Event is the event that r came in, as it was.
func (o Origin) Event(r Result) Event[Result] {
	e := NewEvent(r, "", "", o.Time)
	e.ID, e.Source, e.CorrelationID, e.CausationID, e.TraceParent = o.ID, o.Source, o.CorrelationID, o.CausationID, o.TraceParent
	return e
}

// Head implements Payload.
func (n Notification) Head() Head {
	r := n.Result.Head()
	return Head{
		ID:       ID("n", r.ID, n.Channel, n.To),
		Type:     TypeNotificationRequested,
		Route:    []string{"notifications", Token(n.Channel), string(n.Severity)},
		Target:   r.Target,
		Incident: r.Incident,
		Cause:    r.ID,
		Severity: n.Severity,
	}
}

// Validate reports why the notification cannot be sent.
func (n Notification) Validate() error {
	errs := []error{known("severity", n.Severity, Severities)}
	if !label.MatchString(n.Channel) {
		errs = append(errs, fmt.Errorf("channel: %q is not a channel's name", Clean(n.Channel, 64)))
	}
	if o := n.Origin; o != (Origin{}) {
		errs = append(errs, nonEmpty("origin.id", o.ID), nonEmpty("origin.source", o.Source))
	}
	if err := n.Result.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("result: %w", err))
	}
	return errors.Join(errs...)
}

func (n Notification) filled() Notification {
	n.Result = n.Result.filled()
	return n
}
