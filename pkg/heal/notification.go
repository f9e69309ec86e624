package heal

import (
	"errors"
	"fmt"
)

// A Notification asks for one change of an incident to be told on one channel.
type Notification struct {
	Channel  string            `json:"channel"`            // slack, webhook, …
	To       string            `json:"to,omitempty"`       // where on the channel: "#incidents"
	Severity Severity          `json:"severity"`           // of the incident, for routing and lanes
	Result   Result            `json:"result"`             // what is told
	Metadata map[string]string `json:"metadata,omitempty"` // links and the like
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
	if err := n.Result.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("result: %w", err))
	}
	return errors.Join(errs...)
}
