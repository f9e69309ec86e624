package heal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// The CloudEvents types of the messages.
const (
	TypeFailureDetected       = TypePrefix + "failure.detected.v1"
	TypeFailureResolved       = TypePrefix + "failure.resolved.v1"
	TypeDecisionMade          = TypePrefix + "decision.made.v1"
	TypeActionCompleted       = TypePrefix + "action.completed.v1"
	TypeNotificationRequested = TypePrefix + "notification.requested.v1"
	TypeApprovalGiven         = TypePrefix + "approval.given.v1"
	TypeControlChanged        = TypePrefix + "control.changed.v1"
	TypeMessageDead           = TypePrefix + "message.dead.v1"
)

// ContentType of every message: structured CloudEvents 1.0 JSON.
const ContentType = "application/cloudevents+json; charset=utf-8"

// A Payload is the data of a message. Its Head holds everything about the
// envelope that follows from the payload alone.
type Payload interface {
	Head() Head
	Validate() error
}

// A Head is what an envelope takes from its payload.
type Head struct {
	ID       string   // derived; CloudEvents id and Nats-Msg-Id
	Type     string   // CloudEvents type
	Route    []string // subject tokens behind "<root>.<cluster>"
	Target   Target   // CloudEvents subject; zero for none
	Incident string   // correlationid
	Cause    string   // causationid
	Severity Severity
	Expires  time.Time
}

// Subject is the NATS subject of the payload on a cluster.
func (h Head) Subject(cluster string) string {
	return SubjectRoot + "." + Token(cluster) + "." + strings.Join(h.Route, ".")
}

// An Event is a payload in its CloudEvents 1.0 envelope
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md).
type Event[T Payload] struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Source          string    `json:"source"`
	Type            string    `json:"type"`
	Subject         string    `json:"subject,omitempty"`
	Time            time.Time `json:"time"`
	DataContentType string    `json:"datacontenttype"`
	CorrelationID   string    `json:"correlationid,omitempty"` // the incident
	CausationID     string    `json:"causationid,omitempty"`   // id of the event that caused this one
	SeverityText    Severity  `json:"severitytext,omitempty"`
	ExpiryTime      time.Time `json:"expirytime,omitzero"`
	TraceParent     string    `json:"traceparent,omitempty"` // W3C trace context
	Data            T         `json:"data"`
}

// NewEvent wraps data for publication by service on cluster.
func NewEvent[T Payload](data T, cluster, service string, now time.Time) Event[T] {
	h := data.Head()
	e := Event[T]{
		SpecVersion:     "1.0",
		ID:              h.ID,
		Source:          Source(cluster, service),
		Type:            h.Type,
		Time:            now.UTC(),
		DataContentType: "application/json",
		CorrelationID:   h.Incident,
		CausationID:     h.Cause,
		SeverityText:    h.Severity,
		ExpiryTime:      h.Expires.UTC(),
		Data:            data,
	}
	if h.Expires.IsZero() {
		e.ExpiryTime = time.Time{}
	}
	if h.Target != (Target{}) {
		e.Subject = h.Target.String()
	}
	return e
}

// Source names a service of a cluster as the origin of events.
func Source(cluster, service string) string {
	return "/clusters/" + cluster + "/" + Product + "/" + service
}

// The largest nesting that a message may have; our own deepest is 7.
const maxDepth = 12

// Decode reads an event strictly: valid UTF-8 without a byte-order mark, one
// JSON value, no key given twice, bounded nesting, CloudEvents 1.0, a type and
// an id that follow from the data, and data that validates. Unknown fields are
// ignored, as later minor versions may add some.
func Decode[T Payload](data []byte) (Event[T], error) {
	var e Event[T]
	if err := CheckJSON(data); err != nil {
		return e, fmt.Errorf("bad-json: %w", err)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			return e, fmt.Errorf("bad-json: offset %d: %w", syntax.Offset, err)
		}
		return e, fmt.Errorf("bad-json: %w", err)
	}
	if e.SpecVersion != "1.0" {
		return e, fmt.Errorf("specversion: %q not supported; have 1.0", Clean(e.SpecVersion, 32))
	}
	h := e.Data.Head()
	if e.Type != h.Type {
		return e, fmt.Errorf("type: %q not supported here; want %q", Clean(e.Type, 128), h.Type)
	}
	if err := e.Data.Validate(); err != nil {
		return e, fmt.Errorf("data: %w", err)
	}
	if e.ID != h.ID {
		return e, fmt.Errorf("id: %q does not follow from the data; want %q", Clean(e.ID, 64), h.ID)
	}
	return e, nil
}

// CheckJSON refuses what encoding/json would let pass: invalid UTF-8, a key
// given twice in one object, deep nesting, and trailing bytes.
func CheckJSON(data []byte) error {
	if !utf8.Valid(data) {
		return errors.New("invalid UTF-8")
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	type frame struct {
		keys  map[string]bool // nil in an array
		isKey bool            // the next token is a key
	}
	var stack []frame
	for {
		tok, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("offset %d: %w", dec.InputOffset(), err)
		}
		top := len(stack) - 1
		switch tok {
		case json.Delim('{'), json.Delim('['):
			if top >= 0 {
				stack[top].isKey = stack[top].keys != nil
			}
			if len(stack) == maxDepth {
				return fmt.Errorf("offset %d: nested deeper than %d", dec.InputOffset(), maxDepth)
			}
			f := frame{}
			if tok == json.Delim('{') {
				f = frame{keys: map[string]bool{}, isKey: true}
			}
			stack = append(stack, f)
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:top]
		default:
			if top < 0 || stack[top].keys == nil {
				break
			}
			if !stack[top].isKey {
				stack[top].isKey = true
				break
			}
			key, _ := tok.(string)
			if stack[top].keys[key] {
				return fmt.Errorf("offset %d: key %q given twice", dec.InputOffset(), Clean(key, 64))
			}
			stack[top].keys[key] = true
			stack[top].isKey = false
		}
		if len(stack) == 0 {
			if _, err := dec.Token(); !errors.Is(err, io.EOF) {
				return fmt.Errorf("offset %d: trailing bytes", dec.InputOffset())
			}
			return nil
		}
	}
}
