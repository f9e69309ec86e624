// Package story turns a notification into what a person woken by it wants to
// know, in the order in which they ask: what broke and what came of it; why
// that was decided; what was done; whether it is really over; how to take it
// back. It is pure, and knows no channel: each lays a Story out in its own
// markup, and neutralises there what its markup would act upon.
//
// All text is clean (heal.Clean) and bounded, so a story is a few kilobytes
// whatever the cluster says.
package story

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Story is what a notification tells.
type Story struct {
	Mark     string // one symbol for the outcome, not foreign
	Headline string // what broke, and what came of it; at most 140 bytes
	Happened string // what was seen, in a sentence
	Ended    string // what came of it, in a sentence; may be empty
	Facts    []Fact // at most 8
	Chapters []Chapter
	IDs      []Fact // incident, decision, cluster
	Cluster  string // empty when the result's origin is unknown
	Links    []Link // at most 3; to our own pages, never foreign
}

// A Fact is a value and what it is of. Only the value is foreign.
type Fact struct{ Name, Value string }

// A Chapter is lines under a title. Only the lines are foreign.
type Chapter struct {
	Title string
	Lines []string // at least one
}

// A Link is where to read on.
type Link struct{ Name, URL string }

// The bounds of a story.
const (
	maxHeadline = 140
	maxSentence = 512
	maxLine     = heal.MaxText
	maxLines    = 10
	maxDigest   = 25
	maxURL      = 1024
)

// Of tells n.
func Of(n heal.Notification) Story {
	s := told(n)
	if len(n.Timeline) > 1 {
		var lines []string
		for _, m := range n.Timeline {
			lines = append(lines, clock(m.At)+"  "+m.Text)
		}
		s.Chapters = append(s.Chapters, Chapter{"Timeline", bound(lines)})
	}
	return s.worded(n.Metadata)
}

// told is the story without what came before.
func told(n heal.Notification) Story {
	switch {
	case n.Digest != nil:
		return ofDigest(n)
	case n.Failure != nil:
		return ofEnd(n)
	case n.Decision != nil:
		return ofDecision(n)
	}
	r := n.Result
	d := r.Decision
	mark, ending := mark(r), endingOf(r)
	if v := r.Verification; v != nil && v.Passed && n.Phase != "" && !n.Phase.Over() {
		mark, ending = "🔧", ending+", but more of it fails"
	}
	s := Story{
		Mark:     mark,
		Headline: headlineOf(d.Failure, ending),
		Happened: heal.Clean(d.Failure.Description, maxSentence),
		Ended:    heal.Clean(r.Message, maxSentence),
		Facts:    facts(r),
		IDs:      ids(n),
		Cluster:  cluster(n.Origin),
		Links:    links(n.Metadata),
	}
	add := func(title string, lines []string) {
		if len(lines) > 0 {
			s.Chapters = append(s.Chapters, Chapter{title, lines})
		}
	}
	add("Why we decided so", bound(why(d)))
	add("What was done", bound(done(r)))
	if v := r.Verification; v != nil && v.Passed {
		add("Verified on the live cluster", bound(checks(v)))
	} else if v != nil {
		add("Not verified", bound(checks(v)))
	}
	add("How to undo it", bound(undo(r.Undo)))
	return s
}

// ofDecision tells what is about to be done, or waits for a person.
func ofDecision(n heal.Notification) Story {
	d := *n.Decision
	r := heal.Result{Decision: d}
	mark, ending := "🔧", strings.ReplaceAll(string(d.Strategy), "_", " ")+" under way"
	ended := fmt.Sprintf("%s of %s is under way.", strings.ReplaceAll(string(d.Strategy), "_", " "), d.Target)
	switch {
	case n.Phase == heal.PhaseWaiting:
		mark, ending = "✋", strings.ReplaceAll(string(d.Strategy), "_", " ")+" waits for approval"
		ended = fmt.Sprintf("%s of %s waits for a person, until %s. selfheal approve %s", strings.ReplaceAll(string(d.Strategy), "_", " "), d.Target, clock(d.Expires), d.ID)
	case d.Reason == heal.ReasonGivenUp:
		mark, ending, ended = "✋", endingOf(r), ""
	case !d.Acts():
		mark, ending, ended = "👀", endingOf(r), ""
	}
	s := Story{
		Mark: mark, Headline: headlineOf(d.Failure, ending), Happened: heal.Clean(d.Failure.Description, maxSentence), Ended: heal.Clean(ended, maxSentence),
		Facts: facts(r), IDs: ids(n), Cluster: cluster(n.Origin), Links: links(n.Metadata),
	}
	s.Facts[1] = Fact{"Phase", string(n.Phase)}
	if lines := bound(why(d)); len(lines) > 0 {
		s.Chapters = append(s.Chapters, Chapter{"Why we decided so", lines})
	}
	return s
}

// ofEnd tells that a failure is over.
func ofEnd(n heal.Notification) Story {
	f := *n.Failure
	ending, ended := "over", "It went away by itself; nothing that we did is known to have cured it."
	if n.Phase == heal.PhaseVerified {
		ending, ended = "healed", "What was done helped, and nothing of it is failing any more."
	}
	after := f.ResolvedAt.Sub(f.FirstSeen)
	return Story{
		Mark: "✅", Headline: headlineOf(f, ending+" after "+seconds(after.Seconds())), Happened: heal.Clean(f.Description, maxSentence), Ended: ended,
		Facts: []Fact{
			{"Severity", string(n.Severity)}, {"Phase", string(n.Phase)}, {"Was failing", f.Target.String()},
			{"First seen", clock(f.FirstSeen)}, {"Over since", clock(f.ResolvedAt)},
		},
		IDs: ids(n), Cluster: cluster(n.Origin), Links: links(n.Metadata),
	}
}

// ofDigest tells of many incidents.
func ofDigest(n heal.Notification) Story {
	d := *n.Digest
	mark := "📋"
	switch {
	case d.Kind == "channel":
		mark = "🔴"
	case d.Kind == "storm" && d.Over:
		mark = "✅"
	case d.Kind == "storm":
		mark = "🌩"
	}
	s := Story{
		Mark: mark, Headline: heal.Clean(d.Title, maxHeadline),
		Facts: []Fact{{"Severity", string(n.Severity)}, {"Incidents", fmt.Sprint(d.Total)}, {"Not over yet", fmt.Sprint(d.Open)}},
		IDs:   ids(n), Cluster: cluster(n.Origin), Links: links(n.Metadata),
	}
	if len(d.Lines) > 0 {
		s.Chapters = []Chapter{{"What it is about", boundTo(d.Lines, maxDigest)}}
	}
	return s
}

// Update says in one line what is new, for those who have read the rest.
func Update(n heal.Notification) string {
	if len(n.Timeline) > 0 {
		return heal.Clean(n.Timeline[len(n.Timeline)-1].Text, maxLine)
	}
	return Of(n).Headline
}

// mark tells the outcomes apart at a glance.
func mark(r heal.Result) string {
	switch r.Outcome {
	case heal.Succeeded:
		return "✅"
	case heal.Failed:
		return "🔴"
	case heal.TimedOut:
		return "🟠"
	case heal.Rejected:
		return "✋"
	}
	return "👀"
}

// headlineOf is short enough for a phone's lock screen: the object, what is
// wrong with it, and what came of it, which must survive however long a name.
func headlineOf(f heal.Failure, ending string) string {
	ending = " → " + ending
	what := f.Affected().String() + ": " + heal.Clean(f.Reason, 40)
	return heal.Clean(what, maxHeadline-len(ending)) + ending
}

// endingOf is the outcome in a few words. None of them is foreign.
func endingOf(r heal.Result) string {
	strategy := strings.ReplaceAll(string(r.Decision.Strategy), "_", " ")
	if r.Reason == heal.ReasonGivenUp || r.Decision.Reason == heal.ReasonGivenUp {
		return "given up, a person must look"
	}
	switch r.Outcome {
	case heal.Succeeded:
		if v := r.Verification; v != nil && v.Passed {
			return fmt.Sprintf("healed by %s in %s", strategy, seconds(r.Duration))
		}
		return strategy + " done"
	case heal.Failed:
		return strategy + " failed"
	case heal.TimedOut:
		return strategy + " done, not known to have helped"
	case heal.Rejected:
		return strategy + " refused"
	case heal.DryRun:
		return "would " + strategy + " (dry run)"
	}
	switch {
	case r.Decision.Strategy == heal.Monitor:
		return "watching, nothing to be done"
	case r.Decision.Mode == heal.ModeObserve || r.Decision.Mode == heal.ModeOff:
		return "would " + strategy + " (mode " + string(r.Decision.Mode) + ")"
	}
	return "nothing done"
}

func facts(r heal.Result) []Fact {
	d, f := r.Decision, r.Decision.Failure
	severity := string(d.Severity)
	if d.BaseSeverity != d.Severity {
		severity += fmt.Sprintf(", raised from %s: %d similar before it", d.BaseSeverity, d.SimilarFailures)
	}
	all := []Fact{
		{"Severity", severity},
		{"Outcome", fmt.Sprintf("%s (%s)", r.Outcome, heal.Clean(r.Reason, 64))},
		{"Failing", f.Target.String()},
	}
	if f.Node != "" && f.Node != f.Target.Name {
		all = append(all, Fact{"Node", heal.Clean(f.Node, maxLine)})
	}
	all = append(all, Fact{"First seen", clock(f.FirstSeen)})
	if f.Occurrence > 1 {
		all = append(all, Fact{"Announced", fmt.Sprintf("%d times", f.Occurrence)})
	}
	if d.Cause.Kind != "" && d.Cause.Kind != heal.CauseUnknown {
		all = append(all, Fact{"Likely cause", heal.Clean(string(d.Cause.Kind)+" — "+strings.Join(d.Cause.Evidence, "; "), maxLine)})
	}
	return append(all, Fact{"Rule", heal.Clean(d.Policy.Rule+" of policy "+d.Policy.Name, maxLine)})
}

func why(d heal.Decision) []string {
	var lines []string
	if d.Explanation.Summary != "" {
		lines = append(lines, d.Explanation.Summary)
	}
	for _, step := range d.Explanation.Steps {
		lines = append(lines, "• "+step)
	}
	for _, v := range d.Guards {
		if !v.Allowed {
			lines = append(lines, "• "+v.Name+" says no: "+v.Detail)
		}
	}
	return lines
}

func done(r heal.Result) []string {
	var lines []string
	for _, s := range r.Steps {
		line := "• " + s.Name + ": " + s.Status
		if s.Status != heal.StepSkipped {
			line += ", " + seconds(s.Milliseconds/1000)
		}
		if s.Detail != "" {
			line += " — " + s.Detail
		}
		lines = append(lines, line)
	}
	return lines
}

func checks(v *heal.Verification) []string {
	var lines []string
	for _, c := range v.Checks {
		word := "no"
		if c.Passed {
			word = "yes"
		}
		lines = append(lines, "• "+c.Name+": "+word+", "+c.Observed)
	}
	return lines
}

func undo(u *heal.Undo) []string {
	switch {
	case u == nil:
		return nil
	case u.Command == "":
		return []string{u.Summary}
	}
	return []string{u.Summary, u.Command}
}

func ids(n heal.Notification) []Fact {
	d := n.About()
	all := []Fact{{"incident", heal.Clean(n.Conversation(), maxLine)}}
	if d.ID != "" {
		all = append(all, Fact{"decision", heal.Clean(d.ID, maxLine)})
	}
	if c := cluster(n.Origin); c != "" {
		all = append(all, Fact{"cluster", c})
	}
	if n.Digest == nil {
		all = append(all, Fact{"more by", heal.Clean("selfheal report "+n.Conversation(), maxLine)})
	}
	return all
}

func cluster(o heal.Origin) string {
	rest, ok := strings.CutPrefix(o.Source, "/clusters/")
	if !ok {
		return ""
	}
	name, _, _ := strings.Cut(rest, "/")
	return heal.Clean(name, maxLine)
}

// links takes what the notifier itself put into the metadata. Annotations of
// the cluster's objects are not looked at: whoever may write those could send
// the person on call anywhere.
func links(metadata map[string]string) []Link {
	var all []Link
	for _, name := range []string{"report", "runbook", "dashboard"} {
		u, err := url.Parse(metadata[name])
		if err == nil && u.Scheme == "https" && u.Hostname() != "" && u.User == nil && len(u.String()) <= maxURL {
			all = append(all, Link{name, u.String()})
		}
	}
	return all
}

// Map is the story with f applied to all text that may be foreign, for what a
// channel's markup would act upon.
func (s Story) Map(f func(string) string) Story {
	values := func(facts []Fact) []Fact {
		var all []Fact
		for _, fact := range facts {
			all = append(all, Fact{fact.Name, f(fact.Value)})
		}
		return all
	}
	var chapters []Chapter
	for _, c := range s.Chapters {
		lines := make([]string, len(c.Lines))
		for i, l := range c.Lines {
			lines[i] = f(l)
		}
		chapters = append(chapters, Chapter{c.Title, lines})
	}
	s.Headline, s.Happened, s.Ended, s.Cluster = f(s.Headline), f(s.Happened), f(s.Ended), f(s.Cluster)
	s.Facts, s.IDs, s.Chapters = values(s.Facts), values(s.IDs), chapters
	return s
}

// bound cleans the lines and leaves at most so many of them: the first, which
// say how it began, and the last, which say how it ended.
func bound(lines []string) []string { return boundTo(lines, maxLines) }

func boundTo(lines []string, most int) []string {
	if left := len(lines) - most; left > 0 {
		first := most / 2
		cut := fmt.Sprintf("• … %d more …", left+1)
		lines = append(append(append([]string(nil), lines[:first]...), cut), lines[first+left+1:]...)
	}
	clean := make([]string, len(lines))
	for i, l := range lines {
		clean[i] = heal.Clean(l, maxLine)
	}
	return clean
}

// seconds writes a duration in the unit that a person would choose.
func seconds(s float64) string {
	switch {
	case s < 1:
		return fmt.Sprintf("%.0f ms", s*1000)
	case s < 60:
		return fmt.Sprintf("%.1f s", s)
	case s < 1e7:
		return time.Duration(s * float64(time.Second)).Round(time.Second).String()
	}
	return fmt.Sprintf("%.0f s", s)
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
