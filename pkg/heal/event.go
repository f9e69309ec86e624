package heal

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"regexp"
	"strings"
	"time"
	"unicode"
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

// dataContentType is the media type of every event's data.
const dataContentType = "application/json"

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

// subject is the CloudEvents subject.
func (h Head) subject() string {
	if h.Target == (Target{}) {
		return ""
	}
	return h.Target.String()
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
	data = fill(data)
	h := data.Head()
	return Event[T]{
		SpecVersion:     "1.0",
		ID:              h.ID,
		Source:          Source(cluster, service),
		Type:            h.Type,
		Subject:         h.subject(),
		Time:            now.UTC(),
		DataContentType: dataContentType,
		CorrelationID:   h.Incident,
		CausationID:     h.Cause,
		SeverityText:    h.Severity,
		ExpiryTime:      h.Expires,
		Data:            data,
	}
}

// fill puts empty lists and maps in place of nil ones: nil would be written as
// null, which the contract knows only for verification and undo.
func fill[T Payload](data T) T {
	if f, ok := any(data).(interface{ filled() T }); ok {
		return f.filled()
	}
	return data
}

// Source names a service of a cluster as the origin of events.
func Source(cluster, service string) string {
	return "/clusters/" + cluster + "/" + Product + "/" + service
}

// The largest nesting that a message may have; our own deepest is 7.
const maxDepth = 12

// Decode reads an event strictly: valid UTF-8 without a byte-order mark, one
// JSON value, no key given twice, bounded nesting, CloudEvents 1.0, the type
// that the data has, a source, an id, and data that validates. Unknown fields
// are ignored, as later minor versions may add some.
//
// Ids are the writer's: that they derive from the cause is a promise of ours,
// not something that another writer's can be held to. So are correlationid and
// causationid where given. All else in the envelope follows from the data, and
// where it says something else the data wins. What Decode returns is whole: as
// NewEvent would have made it.
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
	if err := e.complete(h); err != nil {
		return e, err
	}
	return e, nil
}

var (
	sourceForm = regexp.MustCompile(`^/clusters/[a-z0-9.-]{1,63}/` + Product + `/[a-z0-9-]{1,63}$`)
	idForm     = regexp.MustCompile(`^[!-~]{1,128}$`)
	traceForm  = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)
)

// complete refuses attributes that cannot be used, and sets those that follow
// from the data.
func (e *Event[T]) complete(h Head) error {
	if !sourceForm.MatchString(e.Source) {
		return fmt.Errorf("source: %q is not /clusters/<cluster>/%s/<service>", Clean(e.Source, 128), Product)
	}
	if media, _, err := mime.ParseMediaType(e.DataContentType); e.DataContentType != "" && (err != nil || media != dataContentType) {
		return fmt.Errorf("datacontenttype: %q is not supported; want %q", Clean(e.DataContentType, 128), dataContentType)
	}
	e.CorrelationID = cmp.Or(e.CorrelationID, h.Incident)
	e.CausationID = cmp.Or(e.CausationID, h.Cause)
	for _, a := range []struct {
		name, id string
		required bool
	}{{"id", e.ID, true}, {"correlationid", e.CorrelationID, false}, {"causationid", e.CausationID, false}} {
		if (a.required || a.id != "") && !idForm.MatchString(a.id) {
			return fmt.Errorf("%s: %q is not an id of 1 to 128 characters without spaces", a.name, Clean(a.id, 64))
		}
	}
	e.DataContentType = dataContentType
	e.Subject = h.subject()
	e.SeverityText = h.Severity
	e.ExpiryTime = h.Expires
	if !traceForm.MatchString(e.TraceParent) {
		e.TraceParent = "" // as W3C asks: a broken one is as good as none
	}
	e.Data = fill(e.Data)
	return nil
}

// CheckJSON refuses what encoding/json would let pass: invalid UTF-8, a key
// given twice in one object, deep nesting, and trailing bytes. Keys that
// differ only in case count as the same, since encoding/json takes either for
// a field's name and other readers take one.
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
			err = io.ErrUnexpectedEOF
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
			if stack[top].keys[fold(key)] {
				return fmt.Errorf("offset %d: key %q given twice", dec.InputOffset(), Clean(key, 64))
			}
			stack[top].keys[fold(key)] = true
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

// fold returns one spelling for all keys that encoding/json takes for equal.
func fold(key string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for other := unicode.SimpleFold(r); other != r; other = unicode.SimpleFold(other) {
			least = min(least, other)
		}
		return least
	}, key)
}
