package report

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/cli/internal/timeline"
	"github.com/selfheal/selfheal/pkg/heal"
)

// A page is a report in words, as both people's forms show it. Its texts are
// cleaned, and not escaped.
type page struct {
	Title, Object, State, Tone string
	Lead                       []fact // what, why, done, over, next
	Facts                      []fact
	Stats                      []fact // how long it took until …
	Timeline                   []entry
	Failures                   []sign
	Cause                      string
	Because                    []string
	Chapters                   []chapter
	Made                       string
	Unread                     string
}

type fact struct{ Name, Text string }

type entry struct{ At, Clock, After, Stage, Word, Tone, Head, Text string }

// A sign is one failure and what shows it.
type sign struct {
	Object, What, When string
	Evidence           []fact
	More               []fact
}

type chapter struct {
	ID, Strategy, Target, At, Clock, Tone, Ending string
	Why                                           string
	Steps                                         []string
	Facts                                         []fact
	Refused, Allowed                              []fact
	Answer                                        string
	Did                                           []step
	Proof                                         string
	Checks                                        []check
	Message                                       string
	Undo, UndoBy                                  string
	Undone                                        []string
	Kept, KeptBy                                  string
}

type step struct {
	Name, Status, Took, Detail string
	Mark, Tone                 string
	From, Wide                 string // of a bar that is 100 long
}

type check struct {
	Name, Observed string
	Passed         bool
}

// shown is how a state of an incident is called, and how it wants to be read.
func shown(s record.State) (word, tone string) {
	switch s {
	case record.Waiting:
		return "waits for a person", "warn"
	case record.Acting:
		return "is being acted upon", "warn"
	case record.GivenUp:
		return "given up: a person must look", "bad"
	case record.Healed:
		return "healed", "good"
	case record.Recovered:
		return "recovered by itself", "good"
	}
	return "not over", "bad"
}

func (r Report) page() page {
	i := r.Incident
	p := page{
		Title: sentence("%s of %s", i.Reason, i.Object), Object: sentence("%s", i.Object),
		Made: sentence("Made %s from what is on record for the cluster %s.", clock(r.AsOf), r.Cluster),
		Lead: r.lead(), Stats: r.stats(),
		Facts: []fact{
			{"Severity", string(i.Severity)}, {"Type", string(i.Type)}, {"Opened", clock(i.Opened)}, {"Last heard of", clock(i.Changed)},
			{"Failures", sentence("%d, of them %d not over", i.Failures, i.Failing)}, {"Tries", fmt.Sprint(i.Tries)},
			{"Cluster", sentence("%s", r.Cluster)}, {"Incident", sentence("%s", i.ID)},
		},
	}
	p.State, p.Tone = shown(i.State)
	if r.Unread > 0 {
		p.Unread = fmt.Sprintf("%d messages about it cannot be read and are left out.", r.Unread)
	}
	for _, m := range r.Timeline {
		p.Timeline = append(p.Timeline, entry{
			At: clock(m.At), Clock: m.At.Format("15:04:05"), After: "+" + r.span(m.At), Stage: m.Stage, Word: m.Word,
			Tone: tone(m.tone), Head: sentence("%s", m.Head), Text: sentence("%s", m.Text),
		})
	}
	for _, f := range r.Failures {
		p.Failures = append(p.Failures, signOf(f))
	}
	p.Cause, p.Because = r.cause()
	for _, c := range r.Decisions {
		p.Chapters = append(p.Chapters, c.words())
	}
	return p
}

func tone(t timeline.Tone) string {
	switch t {
	case timeline.Bad:
		return "bad"
	case timeline.Good:
		return "good"
	case timeline.Warn:
		return "warn"
	case timeline.Quiet:
		return "quiet"
	}
	return "plain"
}

// lead is what somebody who was woken reads first.
func (r Report) lead() []fact {
	i := r.Incident
	broke := i.Reason
	if len(r.Failures) > 0 {
		broke = r.Failures[0].Description
	}
	why, because := r.cause()
	if len(because) > 0 {
		why += ": " + because[0]
	}
	facts := []fact{
		{"What broke", sentence("%s: %s", i.Object, broke)},
		{"Why", sentence("%s", why)},
		{"What was done", r.done()},
	}
	if at, over := r.ended(); over {
		facts = append(facts, fact{"Is it over?", sentence("Yes, %s after it was first seen. %s", r.span(at), i.Message)})
	} else {
		facts = append(facts, fact{"Is it over?", sentence("No, as of %s. %s", clock(r.AsOf), i.Message)})
	}
	switch i.State {
	case record.Waiting:
		facts = append(facts, fact{"What now?", sentence("Say yes or no: selfheal approve %s, or selfheal reject %s", i.DecisionID, i.DecisionID)})
	case record.GivenUp, record.Open:
		facts = append(facts, fact{"What now?", sentence("A person must look. What is known now: selfheal explain %s", i.ID)})
	}
	return facts
}

func (r Report) done() string {
	var deeds []string
	for _, c := range r.Decisions {
		if c.Result == nil || !c.Decision.Acts() {
			continue
		}
		deeds = append(deeds, fmt.Sprintf("%s of %s: %s", c.Decision.Strategy, c.Decision.Target, strings.ReplaceAll(string(c.Result.Outcome), "_", " ")))
	}
	if len(deeds) == 0 {
		for _, c := range slices.Backward(r.Decisions) {
			return sentence("Nothing was changed. %s", c.Decision.Explanation.Summary)
		}
		return "Nothing."
	}
	return sentence("%s", strings.Join(deeds, "; "))
}

// cause is as the last decision that knew one had it.
func (r Report) cause() (string, []string) {
	for _, c := range slices.Backward(r.Decisions) {
		cause := c.Decision.Cause
		if cause.Kind == heal.CauseUnknown || cause.Kind == "" {
			continue
		}
		var because []string
		for _, e := range cause.Evidence {
			because = append(because, sentence("%s", e))
		}
		if cause.Confidence > 0 {
			return fmt.Sprintf("%s (%.0f %% sure)", cause.Kind, 100*cause.Confidence), because
		}
		return string(cause.Kind), because
	}
	return "The cause is not known", nil
}

func (r Report) stats() []fact {
	var stats []fact
	if len(r.Decisions) > 0 {
		stats = append(stats, fact{"until decided", r.span(r.Decisions[0].At)})
	}
	for _, c := range r.Decisions {
		if c.Result != nil && c.Decision.Acts() {
			stats = append(stats, fact{"until acted", r.span(c.Result.StartedAt)})
			break
		}
	}
	if at, over := r.ended(); over {
		return append(stats, fact{"until over", r.span(at)})
	}
	return append(stats, fact{"and not over", r.span(r.AsOf)})
}

func signOf(f heal.Failure) sign {
	s := sign{
		Object: sentence("%s", f.Target), What: sentence("%s: %s", f.Reason, f.Description),
		When: sentence("first seen %s, announced %s", clock(f.FirstSeen), times(f.Occurrence)),
		More: []fact{{"Detector", sentence("%s", f.Detector)}},
	}
	if f.Resolved() {
		s.When += sentence(", gone %s", clock(f.ResolvedAt))
	}
	if f.Node != "" {
		s.More = append(s.More, fact{"Node", sentence("%s", f.Node)})
	}
	for _, key := range slices.Sorted(maps.Keys(f.Metadata)) {
		s.More = append(s.More, fact{sentence("%s", key), sentence("%s", f.Metadata[key])})
	}
	for _, e := range f.Evidence {
		s.Evidence = append(s.Evidence, fact{sentence("%s", e.Path), sentence("%s", e.Value)})
	}
	return s
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func (c Chapter) words() chapter {
	d := c.Decision
	w := chapter{
		ID: sentence("%s", d.ID), Strategy: string(d.Strategy), Target: sentence("%s", d.Target), At: clock(c.At), Clock: c.At.UTC().Format("15:04:05"),
		Why: sentence("%s", d.Explanation.Summary),
		Facts: []fact{
			{"Reason", sentence("%s", d.Reason)}, {"Mode", string(d.Mode)},
			{"Severity", sentence("%s (%s by itself, %d like it in the window)", d.Severity, d.BaseSeverity, d.SimilarFailures)},
			{"Policy", sentence("%s, rule %s", d.Policy.Name, d.Policy.Rule)}, {"Policy revision", sentence("%s", d.Policy.Revision)},
		},
	}
	if c.Times > 1 {
		w.At += sentence(", and %s more until %s", times(c.Times-1), clock(c.Last))
	}
	for _, s := range d.Explanation.Steps {
		w.Steps = append(w.Steps, sentence("%s", s))
	}
	for _, key := range slices.Sorted(maps.Keys(d.Parameters)) {
		w.Facts = append(w.Facts, fact{sentence("%s", key), sentence("%s", d.Parameters[key])})
	}
	for _, g := range d.Guards {
		if g.Allowed {
			w.Allowed = append(w.Allowed, fact{sentence("%s", g.Name), sentence("%s", g.Detail)})
		} else {
			w.Refused = append(w.Refused, fact{sentence("%s", g.Name), sentence("%s", g.Detail)})
		}
	}
	if a := c.Answer; a != nil {
		verb := "rejected"
		if a.Approved {
			verb = "approved"
		}
		w.Answer = sentence("%s by %s at %s", verb, a.By, clock(a.At))
		if a.Reason != "" {
			w.Answer += sentence(": %s", a.Reason)
		}
	}
	for _, u := range c.Undone {
		text := sentence("%s asked to take it back at %s", u.By, clock(u.At))
		if u.Verb == heal.TakenBack {
			text = sentence("Taking it back %s at %s", u.Outcome, clock(u.At))
		}
		if u.Reason != "" {
			text += sentence(": %s", u.Reason)
		}
		w.Undone = append(w.Undone, text)
	}
	w.Ending, w.Tone = c.ending()
	if c.Result != nil {
		w.result(*c.Result)
	}
	return w
}

// ending is how a decision stands, in a word or two.
func (c Chapter) ending() (word, tone string) {
	d := c.Decision
	switch {
	case c.Result != nil && c.Result.Outcome == heal.Succeeded:
		return "succeeded", "good"
	case c.Result != nil && (c.Result.Outcome == heal.Failed || c.Result.Outcome == heal.TimedOut):
		return strings.ReplaceAll(string(c.Result.Outcome), "_", " "), "bad"
	case c.Result != nil && d.Acts():
		return strings.ReplaceAll(string(c.Result.Outcome), "_", " "), "warn"
	case d.Strategy == heal.Monitor:
		return "nothing to be done", "quiet"
	case !d.Acts():
		return "not carried out", "quiet"
	case c.Answer == nil && d.Mode == heal.ModeApprove:
		return "waits for a person", "warn"
	case c.Answer != nil && !c.Answer.Approved:
		return "rejected", "warn"
	}
	return "no result yet", "warn"
}

func (w *chapter) result(r heal.Result) {
	if w.Message = sentence("%s", r.Message); w.Message == "" {
		w.Message = sentence("%s", r.Reason)
	}
	if r.DryRun {
		w.Message = "Dry run, nothing was changed. " + w.Message
	}
	if r.Duration > 0 {
		w.Facts = append(w.Facts, fact{"Took", timeline.Duration(time.Duration(r.Duration * float64(time.Second)))}, fact{"Result", sentence("%s", r.Reason)})
	}
	w.Did = steps(r.Steps)
	if v := r.Verification; v != nil {
		w.Proof = "It was looked at on the live cluster, and is not proven to have helped."
		if v.Passed {
			w.Proof = "It was looked at on the live cluster, and helped."
		}
		for _, c := range v.Checks {
			w.Checks = append(w.Checks, check{sentence("%s", words(c.Name)), sentence("%s", c.Observed), c.Passed})
		}
	}
	if u := r.Undo; u != nil {
		w.Undo, w.UndoBy = sentence("%s", u.Summary), sentence("%s", u.Command)
	}
	if k := r.Evidence; k != nil {
		w.Kept = sentence("What it looked like before is kept for a week (%d bytes).", k.Bytes)
		w.KeptBy = sentence("nats object get %s %s", k.Bucket, k.Object)
	}
}

// steps are drawn to scale, one after the other.
func steps(all []heal.Step) []step {
	var whole, before float64
	for _, s := range all {
		whole += max(0, s.Milliseconds)
	}
	var list []step
	for _, s := range all {
		ms := max(0, s.Milliseconds)
		one := step{
			Name: sentence("%s", words(s.Name)), Status: sentence("%s", s.Status), Detail: sentence("%s", s.Detail), Mark: "✓", Tone: "good",
			Took: timeline.Duration(time.Duration(ms * float64(time.Millisecond))),
		}
		switch s.Status {
		case heal.StepFailed:
			one.Mark, one.Tone = "✗", "bad"
		case heal.StepSkipped:
			one.Mark, one.Tone, one.Took = "–", "quiet", ""
		}
		if ms > 0 {
			one.From, one.Wide = fmt.Sprintf("%.2f", min(99, 100*before/whole)), fmt.Sprintf("%.2f", max(1, 100*ms/whole))
		}
		before += ms
		list = append(list, one)
	}
	return list
}

// words turns an identifier into words.
func words(name string) string { return strings.ReplaceAll(name, "_", " ") }
