// Package talk knows where an incident is, and so what there is to say of it.
// It turns decisions, results and ends of failures into phases: seen → acting
// → verified, failed or given up → resolved.
//
// It is pure: no bus, no clock, no log. The three kinds of news come from three
// streams, so in any order and more than once; the same news heard again
// changes nothing, and news that was overtaken tells nothing.
//
// An incident is over when nothing of it fails and nothing is being done about
// it. That what failed is gone proves nothing after a try that did not help: we
// took it away ourselves, and what came in its place may fail as well. Then the
// end is only when it stayed quiet for a while, or a later try is seen to help.
package talk

import (
	"cmp"
	"fmt"
	"maps"
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

	Open     []string             `json:"open,omitempty"`      // episodes that are not over
	Many     bool                 `json:"many,omitempty"`      // there were more of them than are remembered
	Gone     []string             `json:"gone,omitempty"`      // episodes that are over
	UnderWay map[string]time.Time `json:"under_way,omitempty"` // decisions that act and have no result, and when none is awaited any more
	Ended    []string             `json:"ended,omitempty"`     // decisions that have a result
	Proven   bool                 `json:"proven,omitempty"`    // the last try was seen to help
	Failed   bool                 `json:"failed,omitempty"`    // it was seen not to
	GaveUp   bool                 `json:"gave_up,omitempty"`
	Quiet    time.Time            `json:"quiet,omitzero"`  // since when nothing of it is heard, though it is not over
	Final    *Latest              `json:"final,omitempty"` // what its end is told with, if it stays quiet

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
	maxAlso     = 10 // lines about what else fails; of a thousand pods they would be all there is
)

// patience is how long after a decision has expired its result may come.
const patience = time.Hour

// News is one of a decision, a result and a failure that is over.
type News struct {
	ID       string // of its event
	At       time.Time
	Now      time.Time // when it is heard, if not At
	Decision *heal.Decision
	Result   *heal.Result
	Over     *heal.Failure
	Settled  bool // nothing was heard for a while; Over is the last that was
	Origin   heal.Origin
}

func (n News) now() time.Time { return cmp.Or(n.Now, n.At).UTC() }

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
	case !n.Settled:
		i = i.over(n.Over.EpisodeID)
	}
	if i = i.rest(n); i.Phase.Over() && !before.Over() {
		worth = true
		if n.Over != nil {
			i.note(n.Over.ResolvedAt, "over: "+n.Over.Target.String())
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
		i.Latest, i.Await, i.GaveUp, i.Proven, i.Failed, i.Many, i.UnderWay, i.Quiet = nil, nil, false, false, false, false, nil, time.Time{}
		if !n.Settled { // else whoever settled it needs to know that until it is told
			i.Final = nil
		}
	}
	return i, true
}

// rest ends an incident of which nothing is left, or notes that it is quiet.
func (i Incident) rest(n News) Incident {
	if i.Phase == "" || i.Phase.Over() {
		return i
	}
	if len(i.Open) > 0 {
		i.Quiet, i.Final = time.Time{}, nil
		return i
	}
	if len(i.UnderWay) > 0 {
		now := n.now()
		i.UnderWay = maps.Clone(i.UnderWay)
		maps.DeleteFunc(i.UnderWay, func(_ string, until time.Time) bool { return until.Before(now) })
	}
	switch doubt := i.Failed || i.GaveUp || i.Many; {
	case len(i.UnderWay) == 0 && (!doubt || n.Settled):
		if i.Phase = heal.PhaseResolved; i.Proven {
			i.Phase = heal.PhaseVerified
		}
		return i
	case n.Over != nil || i.Final == nil:
		f := n.Failure()
		f.ResolvedAt = cmp.Or(f.ResolvedAt, n.At.UTC())
		i.Final = &Latest{Failure: &f, Origin: n.Origin}
	}
	i.Quiet = n.now()
	return i
}

// Settle is the news that the incident stayed quiet for long enough, or nil if
// it did not. One that was ended by it, and perhaps not told of that, has it
// still.
func (i Incident) Settle(now time.Time, enough time.Duration) *News {
	if i.Final == nil || !i.Phase.Over() && now.Sub(i.Quiet) < enough {
		return nil
	}
	return &News{ID: heal.ID("q", i.ID, i.Final.Failure.EpisodeID), At: now.UTC(), Over: i.Final.Failure, Settled: true, Origin: i.Final.Origin}
}

// Step finds what was told of news that was heard before.
func (i Incident) Step(cause string) (Step, bool) {
	at := slices.IndexFunc(i.Steps, func(s Step) bool { return s.Cause == cause })
	if at < 0 {
		return Step{}, false
	}
	return i.Steps[at], true
}

// aside reports whether a decision with that reason is about something that is
// seen to already, and so asks for nothing.
func aside(reason string) bool {
	return slices.Contains([]string{heal.ReasonRecoveryUnderWay, heal.ReasonSuperseded, heal.ReasonRecovered, heal.ReasonFollowsIncident}, reason)
}

// decided is a decision, which may come after its own result.
func (i Incident) decided(d heal.Decision, at time.Time) (Incident, bool) {
	f := d.Failure
	if slices.Contains(i.Ended, d.ID) {
		return i, false
	}
	acts := d.Acts() && !aside(d.Reason) && d.Reason != heal.ReasonGivenUp
	if acts {
		i.UnderWay = maps.Clone(i.UnderWay)
		if i.UnderWay == nil {
			i.UnderWay = map[string]time.Time{}
		}
		i.UnderWay[d.ID] = d.Expires.Add(patience).UTC()
	}
	if slices.Contains(i.Gone, f.EpisodeID) {
		return i, false
	}
	known := slices.Contains(i.Open, f.EpisodeID)
	i = i.raise(d.Severity).open(f.EpisodeID)
	before := i.Phase
	switch {
	case d.Reason == heal.ReasonGivenUp:
		return i.giveUp(at, d.Explanation.Summary)
	case d.Reason == heal.ReasonFollowsIncident && !known && len(i.Open) <= maxAlso:
		i.note(f.Timestamp.Time, "also failing: "+f.Target.String()+", "+f.Reason)
		return i, false
	case aside(d.Reason):
		return i, false
	case acts && d.Mode == heal.ModeApprove:
		i.Phase, i.Await = heal.PhaseWaiting, &Await{d.ID, d.Expires}
		i.note(at, "waits for a person: "+string(d.Strategy)+" of "+d.Target.String())
	case acts:
		i.Phase, i.Await = heal.PhaseActing, nil
		i.note(at, string(d.Strategy)+" of "+d.Target.String()+" because of "+f.Reason)
	case before == "" || before.Over():
		i.Phase = heal.PhaseSeen
		i.note(f.Timestamp.Time, f.Reason+" of "+f.Target.String()+": "+f.Description)
	default:
		return i, false
	}
	i.Why = clean(append([]string{d.Explanation.Summary}, d.Explanation.Steps...), maxWhy)
	return i, true
}

// ended is a result.
func (i Incident) ended(r heal.Result, at time.Time) (Incident, bool) {
	d := r.Decision
	f := d.Failure
	if slices.Contains(i.Ended, d.ID) {
		return i, false
	}
	i.Ended = last(append(slices.Clone(i.Ended), d.ID), maxSteps)
	i.UnderWay = maps.Clone(i.UnderWay)
	delete(i.UnderWay, d.ID)
	if i.Await != nil && i.Await.Decision == d.ID {
		i.Await = nil
	}
	before := i.Phase
	i = i.raise(d.Severity)
	known := slices.Contains(i.Gone, f.EpisodeID)
	if !known {
		i = i.open(f.EpisodeID)
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
		line()
		i.Proven, i.Failed = true, false
		if d.Target != f.Target { // the owner as a whole was mended
			for _, e := range slices.Clone(i.Open) {
				i = i.over(e)
			}
			i.Many = false
		}
		i = i.over(f.EpisodeID)
		if len(i.Open) == 0 {
			i.GaveUp = false
		}
		i.Phase = i.standing(heal.PhaseActing)
		return i, true
	case r.Outcome == heal.Succeeded:
		line()
		i.Proven = false
		i.Phase = i.standing(heal.PhaseActing)
		return i, true
	case r.Outcome == heal.Failed, r.Outcome == heal.TimedOut:
		line()
		i.Proven, i.Failed = false, true
		i.Phase = i.standing(heal.PhaseFailed)
		return i, true
	case r.Outcome == heal.Rejected && !d.Vetoed():
		line()
		i.Phase = i.standing(heal.PhaseFailed)
		return i, true
	case r.Reason == heal.ReasonRecovered || d.Reason == heal.ReasonRecovered:
		i = i.over(f.EpisodeID)
		return i.idle(), false
	}
	i = i.idle()
	switch news := First(r) && !known; {
	case !news:
		return i, before != "" && i.Phase != before
	case before == "", before.Over(), i.Phase == heal.PhaseSeen && before != heal.PhaseSeen:
		i.Phase = heal.PhaseSeen
		line()
	}
	return i, true
}

// standing is a phase, unless a person must look: that lasts.
func (i Incident) standing(phase heal.Phase) heal.Phase {
	if i.GaveUp {
		return heal.PhaseGivenUp
	}
	return phase
}

// idle is the incident after something that was to be done came to nothing: it
// is where it was, unless something else is under way.
func (i Incident) idle() Incident {
	if i.Phase != heal.PhaseActing && i.Phase != heal.PhaseWaiting || len(i.UnderWay) > 0 {
		return i
	}
	i.Phase = i.standing(heal.PhaseSeen)
	if i.Failed && !i.GaveUp {
		i.Phase = heal.PhaseFailed
	}
	return i
}

// First reports whether r, of which nothing was done, is the first of its
// incident, and so news all the same. That something became moot, or that
// something else is under way, is none.
func First(r heal.Result) bool {
	d := r.Decision
	if aside(r.Reason) || aside(d.Reason) {
		return false
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
	again := i.GaveUp
	i.Phase, i.GaveUp = heal.PhaseGivenUp, true
	if again {
		return i, false
	}
	i.note(at, "given up, a person must look"+trail(why))
	return i, true
}

// raise notes a severity, if it is the highest so far.
func (i Incident) raise(s heal.Severity) Incident {
	if slices.Index(heal.Severities, s) > slices.Index(heal.Severities, i.Severity) {
		i.Severity = s
	}
	return i
}

// open notes that an episode lasts.
func (i Incident) open(episode string) Incident {
	switch {
	case slices.Contains(i.Open, episode):
	case len(i.Open) < maxEpisodes:
		i.Open = append(slices.Clone(i.Open), episode)
	default:
		i.Many = true
	}
	return i
}

// over notes that an episode has ended.
func (i Incident) over(episode string) Incident {
	open := slices.Contains(i.Open, episode)
	if open {
		i.Open = slices.DeleteFunc(slices.Clone(i.Open), func(e string) bool { return e == episode })
	}
	// Of those that are not remembered, the ends need not be either.
	if !slices.Contains(i.Gone, episode) && (open || !i.Many) {
		i.Gone = last(append(slices.Clone(i.Gone), episode), maxEpisodes)
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
