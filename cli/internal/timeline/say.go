package timeline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

type failure struct{ heal.Event[heal.Failure] }

func (e failure) say(t *Timeline) []Line {
	f := e.Data
	l := Line{
		At:       f.Timestamp.Time,
		Stage:    Seen,
		Word:     "SEEN",
		Tone:     Bad,
		Incident: t.number(f.IncidentID(), f),
		Head:     Object(f.Target),
	}
	l.Text = strings.TrimSuffix(strings.TrimPrefix(f.Description, l.Head+" "), ".")
	if lasted := f.Timestamp.Sub(f.FirstSeen); lasted >= time.Second {
		l.Text += ", for " + Duration(lasted)
	}
	switch {
	case f.Resolved() && t.recovering(l.Incident):
		return nil // what was just done to it ended it; whether that helped is told later
	case f.Resolved():
		l.At, l.Word, l.Tone = f.ResolvedAt, "CLEAR", Quiet
		l.Text = fmt.Sprintf("%s is no longer seen, %s after it was first", f.Reason, Duration(f.ResolvedAt.Sub(f.FirstSeen)))
	case f.Occurrence > 1:
		l.Word, l.Tone = "STILL", Quiet
	}
	return []Line{l}
}

type decision struct{ heal.Event[heal.Decision] }

// waits reports whether nothing is decided because of what is being done.
func (e decision) waits() bool { return e.Data.Reason == heal.ReasonRecoveryUnderWay }

func (e decision) say(t *Timeline) []Line {
	d := e.Data
	l := Line{
		At:       e.Time,
		Stage:    Decided,
		Word:     "DECIDED",
		Tone:     Warn,
		Incident: t.number(d.IncidentID, d.Failure),
		Head:     string(d.Strategy),
	}
	switch {
	case e.waits():
		l.Word, l.Tone, l.Head = "WAITS", Quiet, Object(d.Target)
		l.Text = fmt.Sprintf("still fails after %s, and a recovery is under way already", Duration(d.Failure.Timestamp.Sub(d.Failure.FirstSeen)))
		return []Line{l}
	case d.Reason == heal.ReasonSuperseded:
		return nil // the newer one is told
	case d.Reason == heal.ReasonGivenUp:
		l.Word, l.Tone, l.Head = "GIVES UP", Bad, ""
		l.Text = vetoes(d)
	case d.Strategy == heal.Monitor:
		l.Text = "nothing is done: " + or(d.Explanation.Summary, d.Reason)
	case d.Vetoed():
		l.Text = "is not carried out: " + vetoes(d)
	case d.Mode == heal.ModeObserve || d.Mode == heal.ModeOff:
		l.Text = fmt.Sprintf("would be done (mode %s changes nothing) because %s", d.Mode, because(d))
	case d.Mode == heal.ModeApprove:
		l.Text = fmt.Sprintf("waits for a person to approve %s, because %s", d.ID, because(d))
	default:
		l.Text = "because " + because(d)
		delete(t.idle, l.Incident)
		t.underWay = append(t.underWay, UnderWay{
			Decision: d.ID, Incident: l.Incident, Strategy: d.Strategy, About: Object(d.Target), Since: e.Time,
		})
		return []Line{l}
	}
	why := string(d.Strategy) + " " + d.Reason
	if t.idle[l.Incident] == why { // once is news; a lasting failure is judged again and again
		if d.Failure.Occurrence > 1 {
			return nil // that it lasts is told already
		}
		l.Tone = Quiet
	}
	t.idle[l.Incident] = why
	return []Line{l}
}

// because says what made the severity, and with it the strategy.
func because(d heal.Decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "severity is %s: ", d.Severity)
	if d.Severity != d.BaseSeverity {
		fmt.Fprintf(&b, "base %s, ", d.BaseSeverity)
	}
	switch d.SimilarFailures {
	case 0:
		b.WriteString("no similar failure in the last hour")
	case 1:
		b.WriteString("1 similar failure in the last hour")
	default:
		fmt.Fprintf(&b, "%d similar failures in the last hour", d.SimilarFailures)
	}
	if d.Cause.Kind != "" && d.Cause.Kind != heal.CauseUnknown {
		fmt.Fprintf(&b, "; cause: %s", d.Cause.Kind)
	}
	return b.String()
}

func vetoes(d heal.Decision) string {
	var vetoes []string
	for _, v := range d.Guards {
		if !v.Allowed {
			vetoes = append(vetoes, or(v.Detail, v.Reason, v.Name))
		}
	}
	return strings.Join(vetoes, "; ")
}

type result struct{ heal.Event[heal.Result] }

func (e result) say(t *Timeline) []Line {
	r := e.Data
	for i, u := range t.underWay {
		if u.Decision == r.Decision.ID {
			t.underWay = append(t.underWay[:i], t.underWay[i+1:]...)
			break
		}
	}
	if !r.Decision.Acts() {
		return nil // the decision has said already that nothing is done, and why
	}
	firstSeen := r.Decision.Failure.FirstSeen
	ended := r.StartedAt.Add(seconds(r.Duration))
	incident := t.number(r.Decision.IncidentID, r.Decision.Failure)
	var lines []Line
	if steps := steps(r.Steps); steps != "" {
		lines = append(lines, Line{
			At: e.Time, Stage: Acted, Word: "DONE", Incident: incident,
			Text: steps + ", begun " + Duration(r.StartedAt.Sub(firstSeen)) + " after it was first seen",
		})
	}
	l := Line{At: e.Time, Stage: Verified, Incident: incident, Text: or(r.Message, r.Reason)}
	switch r.Outcome {
	case heal.Succeeded:
		l.Word, l.Tone = "HEALED", Good
		l.Text += ", " + Duration(ended.Sub(firstSeen)) + " after it was first seen"
	case heal.Failed:
		l.Word, l.Tone = "FAILED", Bad
	case heal.TimedOut:
		l.Word, l.Tone = "UNPROVEN", Bad
	case heal.Rejected:
		l.Stage, l.Word, l.Tone = Acted, "REFUSED", Warn
	case heal.Skipped:
		l.Stage, l.Word, l.Tone = Acted, "SKIPPED", Plain
	case heal.DryRun:
		l.Stage, l.Word, l.Tone = Acted, "WOULD DO", Plain
	}
	return append(lines, l)
}

// steps says what was requested of the cluster, and how long it took. Looking
// before and after is told by how it ended.
func steps(all []heal.Step) string {
	type group struct {
		name  string
		times int
		took  float64
	}
	var groups []group
	var failed []string
	for _, s := range all {
		if s.Name == "precheck" || s.Name == "verify" || s.Milliseconds == 0 {
			continue
		}
		if s.Status == heal.StepFailed {
			failed = append(failed, strings.TrimSuffix(fmt.Sprintf("%s failed: %s", words(s.Name), s.Detail), ": "))
		}
		if s.Status != heal.StepOK {
			continue
		}
		i := slices.IndexFunc(groups, func(g group) bool { return g.name == s.Name })
		if i < 0 {
			groups, i = append(groups, group{name: s.Name}), len(groups)
		}
		groups[i].times++
		groups[i].took += s.Milliseconds
	}
	var said []string
	for _, g := range groups {
		text := words(g.name)
		if g.times > 1 {
			text += fmt.Sprintf(" ×%d", g.times)
		}
		said = append(said, fmt.Sprintf("%s (%s)", text, Duration(time.Duration(g.took*float64(time.Millisecond)))))
	}
	return strings.Join(append(said, failed...), ", ")
}

type notification struct {
	heal.Event[heal.Notification]
	places []string
}

// and is e told in more places.
func (e notification) and(o notification) notification {
	e.places = append(slices.Clone(e.places), o.places...)
	return e
}

func (e notification) say(t *Timeline) []Line {
	d := e.Data.About()
	if d.ID == "" { // that something is over, or a digest
		return nil
	}
	if !d.Acts() && !slices.ContainsFunc(e.places, forPeople) {
		return nil
	}
	return []Line{{
		At: e.Time, Stage: Told, Word: "TOLD", Tone: Quiet,
		Incident: t.number(d.IncidentID, d.Failure), Text: strings.Join(e.places, ", "),
	}}
}

// forPeople reports whether somebody reads what is told there: a webhook hears
// of everything, even that nothing was done.
func forPeople(place string) bool { return place != "webhook" }

type deadLetter struct{ heal.Event[heal.DeadLetter] }

func (e deadLetter) say(*Timeline) []Line {
	l := e.Data
	return []Line{{
		At: e.Time, Stage: Told, Word: "GIVEN UP", Tone: Bad, Head: l.Stage,
		Text: fmt.Sprintf("%s: %s (kept in the dead-letter stream; it was %s message %d)", l.Reason, heal.Clean(l.Error, heal.MaxText), l.Stream, l.Sequence),
	}}
}

// unreadable is a message that somebody else put into a stream, or a newer
// version of one of ours.
type unreadable struct {
	raw bus.Raw
	err error
}

func (u unreadable) say(*Timeline) []Line {
	return []Line{{
		At: u.raw.Time, Stage: Told, Word: "UNKNOWN", Tone: Warn, Head: heal.Clean(u.raw.Subject, 64),
		Text: heal.Clean(u.err.Error(), heal.MaxText),
	}}
}

// silent is what has no place in the timeline.
type silent struct{}

func (silent) say(*Timeline) []Line { return nil }

// Object names a Kubernetes object in the fewest words: pods are what most
// lines are about, so their kind goes without saying.
func Object(t heal.Target) string {
	name := t.Name
	if t.Namespace != "" {
		name = t.Namespace + "/" + name
	}
	if t.Kind == "Pod" {
		return name
	}
	return strings.ToLower(t.Kind) + " " + name
}

// Duration writes a duration as a person would say it.
func Duration(d time.Duration) string {
	switch {
	case d < 0:
		return "0 ms"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Round(time.Millisecond).Milliseconds())
	case d < time.Minute-50*time.Millisecond:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour-time.Second/2:
		d = d.Round(time.Second)
		return fmt.Sprintf("%d min %d s", d/time.Minute, d%time.Minute/time.Second)
	}
	d = d.Round(time.Minute)
	return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// words turns a step's name into words.
func words(name string) string { return strings.ReplaceAll(name, "_", " ") }

// or returns the first of its arguments that is not empty.
func or(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
