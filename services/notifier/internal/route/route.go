// Package route says who hears of a result: the contract's routes, and what is
// worth a person's attention at all. It is pure: no bus, no clock, no log.
package route

import (
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// An Audience is who listens on a channel, and so what it hears.
type Audience string

// The audiences.
const (
	Record     Audience = "record"     // a machine: every result, whatever it says
	Monitoring Audience = "monitoring" // people who look now and then: low and medium
	Incident   Audience = "incident"   // people who mend things: high and critical
	OnCall     Audience = "on_call"    // the person who is woken: critical
)

// hears are the contract's notification routes.
var hears = map[Audience][]heal.Severity{
	Record:     heal.Severities,
	Monitoring: {heal.Low, heal.Medium},
	Incident:   {heal.High, heal.Critical},
	OnCall:     {heal.Critical},
}

// A Listener is one place on a configured channel.
type Listener struct {
	Channel  string
	To       string // where on the channel: "#incidents"; empty where there is only one place
	Audience Audience
}

// News is how long a result is news. What comes later, because the notifier
// was installed or started again only now, is not told to people any more; a
// Record hears it all the same.
const News = 24 * time.Hour

// Route returns the listeners that are told of r, which is age old, and those
// that its severity would have reached but that are spared it.
func Route(listeners []Listener, r heal.Result, age time.Duration) (told, spared []Listener) {
	worth := age <= News && WorthTelling(r)
	for _, l := range listeners {
		switch {
		case !slices.Contains(hears[l.Audience], r.Decision.Severity):
		case l.Audience == Record || worth:
			told = append(told, l)
		default:
			spared = append(spared, l)
		}
	}
	return told, spared
}

// WorthTelling reports whether people should hear of r. What was done, or was
// refused when it was about to be, is worth it, and that we gave up and a
// person must look. Where nothing was to be done (monitor, observe, dry run, a
// veto such as a rest between two tries) they hear so once per incident: at the first announcement of the failure that opened it. That
// something became moot, or that something else is under way, is no news.
func WorthTelling(r heal.Result) bool {
	d := r.Decision
	switch {
	case slices.Contains([]heal.Outcome{heal.Succeeded, heal.Failed, heal.TimedOut}, r.Outcome), is(r, heal.ReasonGivenUp):
		return true
	case r.Outcome == heal.Rejected && !d.Vetoed(): // by the live cluster, or a person
		return true
	case is(r, heal.ReasonRecoveryUnderWay), is(r, heal.ReasonSuperseded), is(r, heal.ReasonRecovered):
		return false
	case r.Outcome == heal.Skipped && d.Acts(): // it was to be carried out, and became moot
		return false
	}
	return d.Failure.Occurrence == 1 && d.Failure.IncidentID() == d.IncidentID
}

// is reports whether reason is why nothing was done, by the analyzer's word or
// the actuator's.
func is(r heal.Result, reason string) bool {
	return r.Reason == reason || r.Decision.Reason == reason
}
