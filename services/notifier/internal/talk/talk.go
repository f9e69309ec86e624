// Package talk knows where an incident is, and so what there is to say of it.
// It turns decisions, results and ends of failures into phases: seen → acting
// → verified, failed or given up → resolved.
//
// It is pure: no bus, no clock, no log. The three kinds of news come from three
// streams, so in any order and more than once; the same news heard again
// changes nothing, and news that was overtaken tells nothing.
package talk

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// An Incident is what is remembered of one. It stands in a bucket, so it is
// bounded: what is over is small.
type Incident struct {
	ID       string           `json:"id"`
	Phase    heal.Phase       `json:"phase,omitempty"`    // empty before anything was worth telling
	Severity heal.Severity    `json:"severity,omitempty"` // the highest so far
	Type     heal.FailureType `json:"type,omitempty"`
	Reason   string           `json:"reason,omitempty"`
	Object   heal.Target      `json:"object,omitzero"` // what is affected
	Print    string           `json:"print,omitempty"` // the fingerprint
	Began    time.Time        `json:"began,omitzero"`
	Changed  time.Time        `json:"changed,omitzero"`

	Open   []string `json:"open,omitempty"`   // episodes that are not over
	Gone   []string `json:"gone,omitempty"`   // episodes that are over
	Ended  []string `json:"ended,omitempty"`  // decisions that have a result
	Proven bool     `json:"proven,omitempty"` // something that we did was seen to help
	GaveUp bool     `json:"gave_up,omitempty"`

	Seq    int             `json:"seq"`             // of the last change
	Steps  []Step          `json:"steps,omitempty"` // the last changes, to tell them again alike
	Told   map[string]Told `json:"told,omitempty"`  // by Place
	Lines  []heal.Moment   `json:"lines,omitempty"`
	Await  *Await          `json:"await,omitempty"`
	Why    []string        `json:"why,omitempty"` // the last decision's explanation
	Latest *Latest         `json:"latest,omitempty"`
}

// A Step is one change, and who was told of it.
type Step struct {
	Cause  string   `json:"cause"` // id of the news
	Seq    int      `json:"seq"`
	Places []string `json:"places,omitempty"`
}

// Told is the last that a place was told.
type Told struct {
	Seq    int        `json:"seq"`
	Phase  heal.Phase `json:"phase"`
	At     time.Time  `json:"at"`
	Digest string     `json:"digest,omitempty"` // it was told in this digest, and has no message of its own
	Kept   bool       `json:"kept,omitempty"`   // it was kept back: silenced, muted, or to wait
	Again  int        `json:"again,omitempty"`  // how often it was told again
}

// Await is a decision that waits for a person.
type Await struct {
	Decision string    `json:"decision"`
	Until    time.Time `json:"until"`
}

// Latest is the last news of an incident that is not over, to be told again.
type Latest struct {
	Result   *heal.Result   `json:"result,omitempty"`
	Decision *heal.Decision `json:"decision,omitempty"`
	Failure  *heal.Failure  `json:"failure,omitempty"`
	Origin   heal.Origin    `json:"origin,omitzero"`
}

// Place is the key of a place on a channel.
func Place(channel, to string) string { return channel + " " + to }

// The bounds of what is remembered.
const (
	maxEpisodes = 256
	maxSteps    = 32
	maxLines    = 30
	maxWhy      = 12
)

// News is one of a decision, a result and a failure that is over.
type News struct {
	ID       string // of its event
	At       time.Time
	Decision *heal.Decision
	Result   *heal.Result
	Over     *heal.Failure
	Origin   heal.Origin
}

// Failure is the failure that the news is about.
func (n News) Failure() heal.Failure {
	switch {
	case n.Decision != nil:
		return n.Decision.Failure
	case n.Result != nil:
		return n.Result.Decision.Failure
	}
	return *n.Over
}

// Hear returns the incident with the news, and whether that is worth telling.
// Heard again, the same news is old: Step finds who was told.
func (i Incident) Hear(n News) (Incident, bool) {
	f := n.Failure()
	if i.Began.IsZero() && n.Over == nil {
		i.Began, i.Type, i.Reason, i.Object, i.Print = f.FirstSeen, f.Type, heal.Clean(f.Reason, 64), f.Affected(), heal.Clean(f.Fingerprint, heal.MaxText)
	}
	before := i.Phase
	var worth bool
	switch {
	case n.Decision != nil:
		i, worth = i.decided(*n.Decision, n.At)
	case n.Result != nil:
		i, worth = i.ended(*n.Result, n.At)
	default:
		i = i.over(n.Over.EpisodeID)
		i = i.settle(before)
		worth = i.Phase != before && before != ""
		if worth {
			i.note(n.Over.ResolvedAt, "over: "+f.Target.String())
		}
	}
	if !worth {
		return i, false
	}
	i.Seq++
	i.Changed = n.At
	i.Steps = last(append(slices.Clone(i.Steps), Step{Cause: n.ID, Seq: i.Seq}), maxSteps)
	i.Latest = &Latest{n.Result, n.Decision, n.Over, n.Origin}
	if i.Phase.Over() {
		i.Latest, i.Await, i.GaveUp, i.Proven = nil, nil, false, false
	}
	return i, true
}

// Step finds what was told of news that was heard before.
func (i Incident) Step(cause string) (Step, bool) {
	at := slices.IndexFunc(i.Steps, func(s Step) bool { return s.Cause == cause })
	if at < 0 {
		return Step{}, false
	}
	return i.Steps[at], true
}

// decided is a decision, which may come after its own result.
func (i Incident) decided(d heal.Decision, at time.Time) (Incident, bool) {
	f := d.Failure
	if slices.Contains(i.Ended, d.ID) || slices.Contains(i.Gone, f.EpisodeID) {
		return i, false
	}
	i = i.open(f, d.Severity)
	before := i.Phase
	switch {
	case d.Reason == heal.ReasonGivenUp:
		return i.giveUp(at, d.Explanation.Summary)
	case d.Reason == heal.ReasonFollowsIncident:
		i.note(f.Timestamp.Time, "also failing: "+f.Target.String()+", "+f.Reason)
		return i, false
	case d.Reason == heal.ReasonRecoveryUnderWay, d.Reason == heal.ReasonSuperseded, d.Reason == heal.ReasonRecovered:
		return i, false
	case d.Acts() && d.Mode == heal.ModeApprove:
		i.Phase, i.Await = heal.PhaseWaiting, &Await{d.ID, d.Expires}
		i.note(at, "waits for a person: "+string(d.Strategy)+" of "+d.Target.String())
	case d.Acts():
		i.Phase, i.Await = heal.PhaseActing, nil
		i.note(at, string(d.Strategy)+" of "+d.Target.String()+" because of "+f.Reason)
	case before == "" || before.Over():
		i.Phase = heal.PhaseSeen
		i.note(f.Timestamp.Time, f.Reason+" of "+f.Target.String()+": "+f.Description)
	default:
		return i, false
	}
	i.Why = clean(append([]string{d.Explanation.Summary}, d.Explanation.Steps...), maxWhy)
	return i, d.Acts() || i.Phase != before
}

// ended is a result.
func (i Incident) ended(r heal.Result, at time.Time) (Incident, bool) {
	d := r.Decision
	f := d.Failure
	if slices.Contains(i.Ended, d.ID) {
		return i, false
	}
	i.Ended = last(append(slices.Clone(i.Ended), d.ID), maxSteps)
	if i.Await != nil && i.Await.Decision == d.ID {
		i.Await = nil
	}
	before := i.Phase
	known := slices.Contains(i.Gone, f.EpisodeID)
	if !known {
		i = i.open(f, d.Severity)
	}
	line := func() {
		i.note(at, fmt.Sprintf("%s of %s: %s (%s)", d.Strategy, d.Target, r.Outcome, r.Reason)+trail(r.Message))
	}
	switch {
	case d.Reason == heal.ReasonGivenUp || r.Reason == heal.ReasonGivenUp:
		if known { // it went away meanwhile, so nobody has to look
			return i, false
		}
		return i.giveUp(at, r.Message)
	case Proven(r):
		i.Proven = true
		line()
		if d.Target != f.Target { // the owner as a whole was mended
			for _, e := range slices.Clone(i.Open) {
				i = i.over(e)
			}
		}
		i = i.over(f.EpisodeID)
		if len(i.Open) > 0 {
			i.Phase = heal.PhaseActing
			return i, true
		}
		i.Phase = heal.PhaseVerified
		return i, true
	case r.Outcome == heal.Succeeded:
		i.Phase = heal.PhaseActing
		line()
		return i, true
	case r.Outcome == heal.Failed, r.Outcome == heal.TimedOut, r.Outcome == heal.Rejected && !d.Vetoed():
		line()
		i.Phase = heal.PhaseFailed
		if known { // it went away meanwhile
			i = i.settle(i.Phase)
		}
		return i, true
	case r.Reason == heal.ReasonRecovered || d.Reason == heal.ReasonRecovered:
		i = i.over(f.EpisodeID).settle(before)
		return i, i.Phase != before && before != ""
	}
	if !First(r) || known {
		return i, false
	}
	told := before != "" && !before.Over() && before != heal.PhaseActing && before != heal.PhaseWaiting
	if !told {
		i.Phase = heal.PhaseSeen
		line()
	}
	return i, true
}

// First reports whether r, of which nothing was done, is the first of its
// incident, and so news all the same. That something became moot, or that
// something else is under way, is none.
func First(r heal.Result) bool {
	d := r.Decision
	for _, reason := range []string{heal.ReasonRecoveryUnderWay, heal.ReasonSuperseded, heal.ReasonRecovered, heal.ReasonFollowsIncident} {
		if r.Reason == reason || d.Reason == reason {
			return false
		}
	}
	if r.Outcome == heal.Skipped && d.Acts() { // it was to be carried out, and became moot
		return false
	}
	return d.Failure.Occurrence == 1 && d.Failure.IncidentID() == d.IncidentID
}

// Proven reports whether the trouble was seen to be over, on the live cluster,
// after what we did.
func Proven(r heal.Result) bool {
	return r.Outcome == heal.Succeeded && r.Verification != nil && r.Verification.Passed
}

// giveUp is told once, however often the failure is announced after that.
func (i Incident) giveUp(at time.Time, why string) (Incident, bool) {
	if i.GaveUp {
		return i, false
	}
	i.Phase, i.GaveUp = heal.PhaseGivenUp, true
	i.note(at, "given up, a person must look"+trail(why))
	return i, true
}

// open notes that an episode lasts.
func (i Incident) open(f heal.Failure, s heal.Severity) Incident {
	if slices.Index(heal.Severities, s) > slices.Index(heal.Severities, i.Severity) {
		i.Severity = s
	}
	if !slices.Contains(i.Open, f.EpisodeID) && len(i.Open) < maxEpisodes {
		i.Open = append(slices.Clone(i.Open), f.EpisodeID)
	}
	return i
}

// over notes that an episode has ended.
func (i Incident) over(episode string) Incident {
	i.Open = slices.DeleteFunc(slices.Clone(i.Open), func(e string) bool { return e == episode })
	if !slices.Contains(i.Gone, episode) {
		i.Gone = last(append(slices.Clone(i.Gone), episode), maxEpisodes)
	}
	return i
}

// settle ends an incident of which nothing lasts any more.
func (i Incident) settle(phase heal.Phase) Incident {
	switch {
	case len(i.Open) > 0 || phase == "" || phase.Over():
	case i.Proven:
		i.Phase = heal.PhaseVerified
	default:
		i.Phase = heal.PhaseResolved
	}
	return i
}

// note adds a line to the timeline.
func (i *Incident) note(at time.Time, text string) {
	i.Lines = last(append(slices.Clone(i.Lines), heal.Moment{At: at.UTC(), Text: heal.Clean(text, heal.MaxText)}), maxLines)
}

func trail(text string) string {
	if text = strings.TrimSpace(text); text == "" {
		return ""
	}
	return ": " + text
}

func clean(lines []string, most int) []string {
	var all []string
	for _, l := range lines {
		if l != "" && len(all) < most {
			all = append(all, heal.Clean(l, heal.MaxText))
		}
	}
	return all
}

func last[T any](list []T, n int) []T { return list[max(0, len(list)-n):] }
