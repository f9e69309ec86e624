package demo

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// An observation is what the messages tell about one scenario: a fold over
// them, with their times and no others. The zero time is "not yet".
type observation struct {
	Broken     time.Time // when the demo broke it
	Seen       time.Time // when it was first seen
	Decided    time.Time // the first decision to act
	Acted      time.Time // the first change of the cluster
	Healed     time.Time // the last success so far
	HandedOver time.Time // the first decision to leave it to a person
	Resolved   time.Time // the last failure so far that was seen to be over
	Told       time.Time // the last time that a person was to be told

	Strategies []heal.Strategy // of the decisions to act, in order
	Outcomes   []heal.Outcome  // of what was carried out, in order
	Steps      []string        // what was requested of the cluster, in order
	Open       []string        // episodes that are not over
}

// add returns o with one message more. Messages that are about something else,
// or that cannot be read, change nothing.
func (o observation) add(raw bus.Raw, about func(heal.Failure) bool) observation {
	switch raw.Stream {
	case bus.Failures.Stream:
		e, err := heal.Decode[heal.Failure](raw.Data)
		if err != nil || !about(e.Data) {
			return o
		}
		return o.failure(e.Data)
	case bus.Decisions.Stream:
		e, err := heal.Decode[heal.Decision](raw.Data)
		if err != nil || !about(e.Data.Failure) {
			return o
		}
		return o.decision(e.Data, e.Time)
	case bus.Results.Stream:
		e, err := heal.Decode[heal.Result](raw.Data)
		if err != nil || !about(e.Data.Decision.Failure) {
			return o
		}
		return o.result(e.Data)
	case bus.Notifications.Stream:
		e, err := heal.Decode[heal.Notification](raw.Data)
		if err == nil && about(e.Data.About().Failure) && e.Data.Channel == "slack" {
			o.Told = e.Time
		}
	}
	return o
}

// provenAndTold reports whether something was healed and people heard of it.
func (o observation) provenAndTold() bool { return !o.Healed.IsZero() && !o.Told.Before(o.Healed) }

// handedOverAndTold reports whether people have heard that they must look.
func (o observation) handedOverAndTold() bool {
	return !o.HandedOver.IsZero() && !o.Told.Before(o.HandedOver)
}

func (o observation) failure(f heal.Failure) observation {
	open := slices.Index(o.Open, f.EpisodeID)
	switch {
	case f.Resolved():
		o.Resolved = f.ResolvedAt
		if open >= 0 {
			o.Open = slices.Delete(slices.Clone(o.Open), open, open+1)
		}
		return o
	case open < 0:
		o.Open = append(slices.Clone(o.Open), f.EpisodeID)
	}
	first(&o.Seen, f.FirstSeen)
	return o
}

func (o observation) decision(d heal.Decision, at time.Time) observation {
	switch {
	case d.Acts():
		first(&o.Decided, at)
		o.Strategies = append(slices.Clone(o.Strategies), d.Strategy)
	case d.Reason == heal.ReasonGivenUp:
		first(&o.HandedOver, at)
	}
	return o
}

func (o observation) result(r heal.Result) observation {
	if !r.Decision.Acts() {
		return o
	}
	o.Outcomes = append(slices.Clone(o.Outcomes), r.Outcome)
	for _, s := range r.Steps {
		if s.Status == heal.StepOK && changes(s) {
			first(&o.Acted, r.StartedAt)
			o.Steps = append(slices.Clone(o.Steps), s.Name)
		}
	}
	if r.Outcome == heal.Succeeded {
		o.Healed = r.StartedAt.Add(time.Duration(r.Duration * float64(time.Second)))
	}
	return o
}

// changes reports whether a step was a request that changed the cluster,
// rather than a look at it or a note.
func changes(s heal.Step) bool {
	return s.Milliseconds > 0 && s.Name != "precheck" && s.Name != "verify"
}

func first(t *time.Time, at time.Time) {
	if t.IsZero() {
		*t = at
	}
}

// writes says what was requested of the cluster: "cordon, evict ×3".
func (o observation) writes() string {
	var names []string
	times := map[string]int{}
	for _, s := range o.Steps {
		if times[s]++; times[s] == 1 {
			names = append(names, s)
		}
	}
	for i, n := range names {
		names[i] = strings.ReplaceAll(n, "_", " ")
		if times[n] > 1 {
			names[i] += " ×" + strconv.Itoa(times[n])
		}
	}
	return strings.Join(names, ", ")
}
