package heal

import (
	"cmp"
	"errors"
	"fmt"
	"time"
)

// A Failure says that Target is broken, or (with ResolvedAt set) no longer
// broken. A failure that lasts is announced again as a further occurrence, so
// nothing depends on one message being seen, and the analyzer can escalate.
type Failure struct {
	Type         FailureType `json:"type"`
	Reason       string      `json:"reason"`   // CamelCase, stable, for machines
	Severity     Severity    `json:"severity"` // base severity of Type
	ResourceName string      `json:"resource_name"`
	Namespace    string      `json:"namespace"`
	Description  string      `json:"description"` // one sentence, for people
	Timestamp    Unix        `json:"timestamp"`   // when this occurrence was observed

	Target      Target            `json:"target"`
	Owner       Target            `json:"owner,omitzero"` // the top controller of Target, if any
	Node        string            `json:"node,omitempty"`
	Detector    string            `json:"detector"`
	Fingerprint string            `json:"fingerprint"` // what makes two failures similar
	EpisodeID   string            `json:"episode_id"`
	Occurrence  int               `json:"occurrence"` // 1 is the first announcement
	FirstSeen   time.Time         `json:"first_seen"` // by our own clock
	ResolvedAt  time.Time         `json:"resolved_at,omitzero"`
	Evidence    []Evidence        `json:"evidence"`
	Metadata    map[string]string `json:"metadata,omitempty"`

	// Envelope is what the event that brought this failure was called by its
	// writer, which need not be us. A reader sets it; it is not written.
	Envelope Envelope `json:"-"`
}

// MetadataFlapping is the key in a Failure's metadata that says how often the
// same thing has failed and recovered in the last hour, if that was often: a
// recovery means little then.
const MetadataFlapping = "flapping"

// An Envelope is how an event was named by its writer.
type Envelope struct {
	ID       string
	Incident string // its correlationid
}

// Evidence is one field of an object that shows the failure.
type Evidence struct {
	Path  string `json:"path"` // as in kubectl's JSONPath, without the braces
	Value string `json:"value"`
}

// MakeFingerprint tells which failures are similar: same type, same owner (or
// the target itself when nothing owns it), same part of it, same reason.
func MakeFingerprint(t FailureType, target, owner Target, part, reason string) string {
	o := target
	if owner != (Target{}) {
		o = owner
	}
	fp := fmt.Sprintf("%s/%s/%s/%s", t, o.Namespace, o.Kind, o.Name)
	if part != "" {
		fp += "/" + part
	}
	return fp + "/" + reason
}

// MakeEpisodeID identifies one condition (detector and part) on one object
// from firstSeen until it is gone.
func MakeEpisodeID(cluster, uid, detector, part string, firstSeen time.Time) string {
	return ID("e", cluster, uid, detector, part, firstSeen.UTC().Format(time.RFC3339Nano))
}

// Resolved reports whether the message says that the failure is over.
func (f Failure) Resolved() bool { return !f.ResolvedAt.IsZero() }

// EventID is the id of this announcement: equal however often, and by
// however many watchers, the occurrence is seen.
func (f Failure) EventID() string {
	if f.Resolved() {
		return ID("f", f.EpisodeID, "resolved")
	}
	return ID("f", f.EpisodeID, fmt.Sprint(f.Occurrence))
}

// IncidentID is the incident that this failure opens unless it belongs to one
// that is open already, which only the analyzer knows.
func (f Failure) IncidentID() string { return cmp.Or(f.Envelope.Incident, ID("i", f.EpisodeID)) }

// Affected is the owner, or the target itself when nothing owns it.
func (f Failure) Affected() Target {
	if f.Owner != (Target{}) {
		return f.Owner
	}
	return f.Target
}

// Head implements Payload.
func (f Failure) Head() Head {
	h := Head{
		ID:       f.EventID(),
		Type:     TypeFailureDetected,
		Route:    append([]string{"failures", string(f.Type)}, f.Target.tokens()...),
		Target:   f.Target,
		Incident: f.IncidentID(),
		Severity: f.Severity,
	}
	if f.Resolved() {
		h.Type = TypeFailureResolved
		h.Cause = ID("f", f.EpisodeID, "1")
	}
	return h
}

// Validate reports why the failure cannot be judged.
func (f Failure) Validate() error {
	errs := []error{
		known("type", f.Type, FailureTypes),
		known("severity", f.Severity, Severities),
		f.Target.Validate("target"),
	}
	if f.Owner != (Target{}) {
		errs = append(errs, f.Owner.Validate("owner"))
	}
	errs = append(errs,
		nonEmpty("reason", f.Reason),
		nonEmpty("fingerprint", f.Fingerprint),
		nonEmpty("episode_id", f.EpisodeID),
		nonEmpty("detector", f.Detector),
	)
	if f.Timestamp.IsZero() {
		errs = append(errs, errors.New("timestamp: is empty"))
	}
	if f.Occurrence < 1 {
		errs = append(errs, fmt.Errorf("occurrence: %d is less than 1", f.Occurrence))
	}
	if f.FirstSeen.IsZero() {
		errs = append(errs, errors.New("first_seen: is empty"))
	}
	return errors.Join(errs...)
}

func (f Failure) filled() Failure {
	if f.Evidence == nil {
		f.Evidence = []Evidence{}
	}
	return f
}
