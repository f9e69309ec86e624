package heal

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// A Notification asks for one change of an incident to be told on one channel.
// What is told is exactly one of Result, Decision, Failure and Digest.
type Notification struct {
	Channel  string            `json:"channel"`            // slack, webhook, …
	To       string            `json:"to,omitempty"`       // where on the channel: "#incidents"
	Severity Severity          `json:"severity"`           // of the incident, for routing and lanes
	Result   Result            `json:"result,omitzero"`    // how a decision turned out
	Decision *Decision         `json:"decision,omitempty"` // what was decided, while it has no result
	Failure  *Failure          `json:"failure,omitempty"`  // what is over, without or after what we did
	Digest   *Digest           `json:"digest,omitempty"`   // many incidents in one message
	Origin   Origin            `json:"origin,omitzero"`    // of the event that told us
	Metadata map[string]string `json:"metadata,omitempty"` // links and the like

	Incident string   `json:"incident,omitempty"` // whose conversation it belongs to
	Phase    Phase    `json:"phase,omitempty"`    // where the incident is with this
	Seq      int      `json:"seq,omitempty"`      // which change of the incident this is; a later one tells more
	Again    int      `json:"again,omitempty"`    // which repetition, of something told before or kept back
	Timeline []Moment `json:"timeline,omitempty"` // of the incident so far, the oldest first
}

// A Phase is where an incident is, for those who are told of it.
type Phase string

// The phases, in the usual order. The last two are its end.
const (
	PhaseSeen     Phase = "seen"     // nothing is done about it
	PhaseWaiting  Phase = "waiting"  // for a person to approve
	PhaseActing   Phase = "acting"   // something is done about it, or was without proof
	PhaseFailed   Phase = "failed"   // what was done did not help, or was refused
	PhaseGivenUp  Phase = "given_up" // a person must look
	PhaseVerified Phase = "verified" // seen to be over, after what we did
	PhaseResolved Phase = "resolved" // over by itself
)

// Phases is every phase.
var Phases = []Phase{PhaseSeen, PhaseWaiting, PhaseActing, PhaseFailed, PhaseGivenUp, PhaseVerified, PhaseResolved}

// Over reports whether nothing is wrong any more.
func (p Phase) Over() bool { return p == PhaseVerified || p == PhaseResolved }

// A Moment is one line of an incident's timeline.
type Moment struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"` // may hold foreign text
}

// A Digest tells of many incidents at once.
type Digest struct {
	ID    string   `json:"id"`   // the conversation that its messages belong to
	Kind  string   `json:"kind"` // storm, start, daily, weekly, channel
	Title string   `json:"title"`
	Lines []string `json:"lines"`
	Total int      `json:"total"` // incidents it is about
	Open  int      `json:"open"`  // of them not over yet
	Over  bool     `json:"over"`  // there will be no further message of this digest
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
func MakeOrigin[T Payload](e Event[T], stored time.Time) Origin {
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

// news is the head of the message that is told, without what only its channel adds.
func (n Notification) news() Head {
	switch {
	case n.Decision != nil:
		return n.Decision.Head()
	case n.Failure != nil:
		return n.Failure.Head()
	case n.Digest != nil:
		return Head{ID: ID("g", n.Digest.ID, fmt.Sprint(n.Seq)), Incident: n.Digest.ID}
	}
	return n.Result.Head()
}

// Head implements Payload.
func (n Notification) Head() Head {
	news := n.news()
	parts := []string{news.ID, n.Channel, n.To}
	if n.Again > 0 {
		parts = append(parts, fmt.Sprint(n.Again))
	}
	return Head{
		ID:       ID("n", parts...),
		Type:     TypeNotificationRequested,
		Route:    []string{"notifications", Token(n.Channel), string(n.Severity)},
		Target:   news.Target,
		Incident: cmp.Or(n.Incident, news.Incident),
		Cause:    news.ID,
		Severity: n.Severity,
	}
}

// About is the decision that is told, or of whose result; the zero Decision if
// it is neither.
func (n Notification) About() Decision {
	if n.Decision != nil {
		return *n.Decision
	}
	return n.Result.Decision
}

// Conversation is the incident, or digest, whose messages belong together.
func (n Notification) Conversation() string { return n.Head().Incident }

// Validate reports why the notification cannot be sent.
func (n Notification) Validate() error {
	errs := []error{known("severity", n.Severity, Severities)}
	if !label.MatchString(n.Channel) {
		errs = append(errs, fmt.Errorf("channel: %q is not a channel's name", Clean(n.Channel, 64)))
	}
	if n.Phase != "" {
		errs = append(errs, known("phase", n.Phase, Phases))
	}
	if o := n.Origin; o != (Origin{}) {
		errs = append(errs, nonEmpty("origin.id", o.ID), nonEmpty("origin.source", o.Source))
	}
	told := 0
	check := func(what string, err error) {
		told++
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	if n.Decision != nil {
		check("decision", n.Decision.Validate())
	}
	if n.Failure != nil {
		check("failure", n.Failure.Validate())
	}
	if n.Digest != nil {
		check("digest", errors.Join(nonEmpty("id", n.Digest.ID), nonEmpty("title", n.Digest.Title)))
	}
	if told == 0 || n.Result.Outcome != "" {
		check("result", n.Result.Validate())
	}
	if told > 1 {
		errs = append(errs, errors.New("result, decision, failure, digest: want one of them, got several"))
	}
	return errors.Join(errs...)
}

func (n Notification) filled() Notification {
	if n.Decision == nil && n.Failure == nil && n.Digest == nil {
		n.Result = n.Result.filled()
	}
	if n.Decision != nil {
		d := n.Decision.filled()
		n.Decision = &d
	}
	if n.Failure != nil {
		f := n.Failure.filled()
		n.Failure = &f
	}
	if n.Digest != nil && n.Digest.Lines == nil {
		d := *n.Digest
		d.Lines = []string{}
		n.Digest = &d
	}
	return n
}
