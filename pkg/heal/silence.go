package heal

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A Silence keeps people from being told of some incidents for a while. It
// stands in a bucket under its ID. What is recorded, and what machines are
// told, it does not touch.
type Silence struct {
	ID     string    `json:"id"`
	Match  Match     `json:"match"`
	By     string    `json:"by"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
	Until  time.Time `json:"until"`
}

// MaxSilence is the longest that a silence may last: nobody remembers why
// after that.
const MaxSilence = 30 * 24 * time.Hour

// MakeSilenceID derives the id from who asked for it, when, and for what.
func MakeSilenceID(s Silence) string {
	return ID("s", s.By, s.At.UTC().Format(time.RFC3339Nano), fmt.Sprintf("%+v", s.Match))
}

// In reports whether the silence is in force.
func (s Silence) In(now time.Time) bool { return now.Before(s.Until) }

// Validate reports why the silence cannot be kept.
func (s Silence) Validate() error {
	errs := []error{nonEmpty("id", s.ID), nonEmpty("by", s.By), nonEmpty("reason", s.Reason), s.Match.Validate()}
	if s.Match.Empty() {
		errs = append(errs, errors.New("match: is empty; it would silence everything; notification_enabled=false does that"))
	}
	switch d := s.Until.Sub(s.At); {
	case s.At.IsZero() || s.Until.IsZero():
		errs = append(errs, errors.New("at, until: want both times"))
	case d <= 0 || d > MaxSilence:
		errs = append(errs, fmt.Errorf("until: %s after its beginning; want more than 0 and at most %s", d, MaxSilence))
	}
	return errors.Join(errs...)
}

// A Match says which incidents are meant: those that fit each field that is
// given. In names a * stands for any number of characters.
type Match struct {
	Severities []Severity        `json:"severity,omitempty"`
	Types      []FailureType     `json:"type,omitempty"`
	Reasons    []string          `json:"reason,omitempty"`
	Namespaces []string          `json:"namespace,omitempty"`
	Objects    []string          `json:"object,omitempty"` // Kind/name of the owner, or of what is broken
	Teams      []string          `json:"team,omitempty"`   // of the owner's annotation
	Labels     map[string]string `json:"labels,omitempty"` // of the owner, each one of RoutingLabels
	Incident   string            `json:"incident,omitempty"`
}

// What a watcher puts into a failure's metadata for routing: the annotations
// of the owner, and its RoutingLabels, each under this prefix.
const (
	MetadataTeam    = "team"
	MetadataRunbook = "runbook"
	MetadataLabel   = "label."
)

// RoutingLabels are the labels of an owner that a failure tells, and so those
// that a Match can ask for: what Kubernetes recommends, and what is usual.
// What else an owner is labelled with is not copied.
var RoutingLabels = []string{
	"app",
	"app.kubernetes.io/component",
	"app.kubernetes.io/instance",
	"app.kubernetes.io/name",
	"app.kubernetes.io/part-of",
	"environment",
	"team",
	"tier",
}

// Empty reports whether everything is meant.
func (m Match) Empty() bool {
	return len(m.Severities)+len(m.Types)+len(m.Reasons)+len(m.Namespaces)+len(m.Objects)+len(m.Teams)+len(m.Labels) == 0 && m.Incident == ""
}

// Fits reports whether an incident of that severity, of which f is a failure, is meant.
func (m Match) Fits(incident string, s Severity, f Failure) bool {
	among := func(patterns []string, names ...string) bool {
		return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
			return slices.ContainsFunc(names, func(name string) bool { return Glob(p, name) })
		})
	}
	if len(m.Severities) > 0 && !slices.Contains(m.Severities, s) || len(m.Types) > 0 && !slices.Contains(m.Types, f.Type) {
		return false
	}
	if m.Incident != "" && m.Incident != incident {
		return false
	}
	owner := f.Affected()
	if !among(m.Reasons, f.Reason) || !among(m.Namespaces, owner.Namespace) || !among(m.Teams, f.Metadata[MetadataTeam]) ||
		!among(m.Objects, owner.Kind+"/"+owner.Name, f.Target.Kind+"/"+f.Target.Name) {
		return false
	}
	for name, pattern := range m.Labels {
		if value, ok := f.Metadata[MetadataLabel+name]; !ok || !Glob(pattern, value) {
			return false
		}
	}
	return true
}

// Validate reports what is wrong with the match.
func (m Match) Validate() error {
	var errs []error
	for _, s := range m.Severities {
		errs = append(errs, known("match.severity", s, Severities))
	}
	for _, t := range m.Types {
		errs = append(errs, known("match.type", t, FailureTypes))
	}
	for _, name := range slices.Sorted(maps.Keys(m.Labels)) {
		errs = append(errs, known("match.labels", name, RoutingLabels))
	}
	return errors.Join(errs...)
}

// Glob reports whether name is what pattern says, in which * stands for any
// number of characters. It takes no longer than their lengths multiplied.
func Glob(pattern, name string) bool {
	star, mark := -1, 0
	p, n := 0, 0
	for n < len(name) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && pattern[p] == name[n]:
			p++
			n++
		case star >= 0:
			mark++
			p, n = star+1, mark
		default:
			return false
		}
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}
