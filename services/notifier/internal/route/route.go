// Package route says who hears of what, and when: the contract's routes or the
// operator's, what is worth a person's attention, and what is kept back. It is
// pure: no bus, no clock, no log.
package route

import (
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/talk"
)

// An Audience is who listens on a channel, and so what it hears.
type Audience string

// The audiences.
const (
	Record     Audience = "record"     // a machine: every result, whatever it says
	Monitoring Audience = "monitoring" // people who look now and then: low and medium
	Incident   Audience = "incident"   // people who mend things: high and critical
	OnCall     Audience = "on_call"    // the person who is woken: critical
	Routed     Audience = "routed"     // what the policy's routes say, and nothing else
	Changes    Audience = "changes"    // a log of what was changed
)

// hears are the contract's notification routes.
var hears = map[Audience][]heal.Severity{
	Record:     heal.Severities,
	Monitoring: {heal.Low, heal.Medium},
	Incident:   {heal.High, heal.Critical},
	OnCall:     {heal.Critical},
	Changes:    heal.Severities,
}

// A Listener is one place on a configured channel.
type Listener struct {
	Channel  string
	To       string // where on the channel: "#incidents"; empty where there is only one place
	Audience Audience
	Edits    bool // its message is changed as the incident goes on, so each change is worth telling
	Ends     bool // of a Record: it hears of failures that are over as well
}

// Place is the key of the listener.
func (l Listener) Place() string { return talk.Place(l.Channel, l.To) }

// people reports whether somebody reads what is told there.
func (l Listener) people() bool { return l.Audience != Record && l.Audience != Changes }

// News is how long a result is news. What comes later, because the notifier
// was installed or started again only now, is not told to people any more; a
// Record hears it all the same.
const News = 24 * time.Hour

// A Case is what is to be told, and all that bears upon whom.
type Case struct {
	Incident talk.Incident // with the news
	News     talk.News
	Worth    bool // of a person's attention
	Stored   time.Time
	Now      time.Time
	Since    time.Time // when people were first told anything; before that is history
	Silences []heal.Silence
}

// A Course is what becomes of news at one place.
type Course string

// The courses.
const (
	Not     Course = ""       // it does not concern the place
	Tell    Course = "tell"   // now
	Spare   Course = "spare"  // it is not worth telling
	Keep    Course = "keep"   // perhaps later
	EachDay Course = "daily"  // in the digest of the day
	Past    Course = "past"   // in the digest of what was before we began
	Silent  Course = "silent" // kept back by a silence or a mute window
)

// Decide says what becomes of the news at l.
func (p Policy) Decide(l Listener, listeners []Listener, c Case) Course {
	if !l.people() {
		return machine(l, c)
	}
	told, before := c.Incident.Told[l.Place()]
	knows := before && told.Seq > 0 && told.Digest == "" // of it, though perhaps not the last
	heard := knows && !told.Kept
	switch {
	case !before && (c.News.Over != nil || !slices.Contains(p.routed(listeners, c), l)):
		return Not
	case !c.Worth, c.Now.Sub(c.Stored) > News:
		return Spare
	case !l.Edits && c.News.Decision != nil && c.Incident.Phase != heal.PhaseWaiting && c.Incident.Phase != heal.PhaseGivenUp:
		return Not // its result follows, and says more
	case c.Incident.Phase.Over() && before && told.Kept && (!knows || told.Phase.Over()):
		return Spare // nobody knows that it ever was
	case c.News.Over != nil && (!before || told.Phase.Over()):
		return Spare
	case before && told.Digest != "":
		return Keep // its digest tells
	case c.Incident.Phase.Over() && knows:
		return Tell // the end never waits
	case p.Quiet(c.Incident, c.News.Failure(), c.Silences, c.Now):
		return Silent
	case c.Stored.Before(c.Since):
		return Past
	case p.Daily != nil && slices.Contains(p.Daily.Severities, c.Incident.Severity):
		return EachDay
	case !heard && p.Group.Wait > 0 && c.Incident.Severity != heal.Critical && !c.Incident.Phase.Over():
		return Keep
	case !l.Edits && heard && !worse(c.Incident.Phase, told.Phase):
		if p.Group.Interval == 0 {
			return Spare // they know as much
		}
		return Keep
	}
	return Tell
}

// worse reports whether a phase is news to those who last heard of another and
// cannot be shown each step: that it began, or that it waits for them.
func worse(now, last heal.Phase) bool {
	needed := []heal.Phase{heal.PhaseWaiting, heal.PhaseGivenUp}
	began := last != "" && !last.Over()
	return !began || slices.Index(needed, now) > slices.Index(needed, last)
}

// machine is Decide for those who are not people.
func machine(l Listener, c Case) Course {
	r, over := c.News.Result, c.News.Over
	switch {
	case l.Audience == Changes && r != nil && changed(*r):
		return Tell
	case l.Audience == Record && r != nil:
		return Tell
	case l.Audience == Record && l.Ends && over != nil && !lasts(c.Incident, *over):
		return Tell
	}
	return Not
}

// lasts reports whether f being over says nothing yet about what the incident
// began with: another of the kind fails, or may.
func lasts(i talk.Incident, f heal.Failure) bool {
	return i.Phase != "" && !i.Phase.Over() && i.Print == heal.Clean(f.Fingerprint, heal.MaxText)
}

// disruptive is what others may notice: more than one pod that is made anew.
var disruptive = []heal.Strategy{
	heal.ScaleAndReplace, heal.DrainAndReplace, heal.EmergencyReplace, heal.Failover, heal.EmergencyFailover, heal.Rollback,
}

// changed reports whether something disruptive was really done to the cluster.
func changed(r heal.Result) bool {
	return slices.Contains(disruptive, r.Decision.Strategy) && !r.DryRun &&
		slices.Contains([]heal.Outcome{heal.Succeeded, heal.Failed, heal.TimedOut}, r.Outcome)
}

// routed are the listeners among people that hear of the case.
func (p Policy) routed(listeners []Listener, c Case) []Listener {
	f := c.News.Failure()
	var all []Listener
	decided := false
	for _, r := range p.Routes {
		if !r.Match.Fits(c.Incident.ID, c.Incident.Severity, f) || r.During != nil && !r.During.Holds(c.Now) {
			continue
		}
		decided = true
		for _, text := range r.To {
			channel, to := SplitPlace(text)
			for _, l := range listeners {
				if l.people() && l.Channel == channel && l.To == to && !slices.Contains(all, l) {
					all = append(all, l)
				}
			}
		}
		if !r.Continue {
			break
		}
	}
	if decided {
		return all
	}
	for _, l := range listeners {
		if l.people() && slices.Contains(hears[l.Audience], c.Incident.Severity) {
			all = append(all, l)
		}
	}
	return all
}

// Quiet reports whether people are not to be told of the incident just now.
func (p Policy) Quiet(i talk.Incident, f heal.Failure, silences []heal.Silence, now time.Time) bool {
	for _, s := range silences {
		if s.In(now) && s.Match.Fits(i.ID, i.Severity, f) {
			return true
		}
	}
	for _, m := range p.Mute {
		if m.During.Holds(now) && m.Match.Fits(i.ID, i.Severity, f) {
			return true
		}
	}
	return false
}

// Due reports whether a place is to be told again of an incident of which there
// is no news: what was kept back can be told now, or a person must still look.
func (p Policy) Due(l Listener, i talk.Incident, silences []heal.Silence, now time.Time) bool {
	told, before := i.Told[l.Place()]
	if !before || !l.people() || i.Latest == nil || told.Digest != "" {
		return false
	}
	news := talk.News{Result: i.Latest.Result, Decision: i.Latest.Decision, Over: i.Latest.Failure}
	if i.Phase.Over() || !i.Quiet.IsZero() || p.Quiet(i, news.Failure(), silences, now) {
		return false
	}
	if told.Kept {
		wait := time.Duration(p.Group.Wait)
		if told.Seq > 0 {
			wait = time.Duration(p.Group.Interval)
		}
		return now.Sub(told.At) >= wait
	}
	needed := i.Phase == heal.PhaseFailed || i.Phase == heal.PhaseGivenUp || i.Phase == heal.PhaseWaiting
	return needed && l.Audience != OnCall && *p.Group.Repeat > 0 && now.Sub(told.At) >= time.Duration(*p.Group.Repeat)
}
