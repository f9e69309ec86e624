// Package report makes one document of all that is on record about an incident:
// what broke, why, what was done about it and whether it helped, as a page of
// HTML that needs nothing from anywhere, as Markdown and as JSON.
//
// All of it is pure: the same messages and the same moment give the same bytes.
// Text from the cluster and from people is cleaned and escaped, so that it is
// never markup, a link or a script in any of the three.
package report

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/cli/internal/timeline"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// A Report is what is known of one incident. It marshals into the form json.
type Report struct {
	Cluster   string          `json:"cluster"`
	AsOf      time.Time       `json:"as_of"`
	Incident  record.Incident `json:"incident"`
	Failures  []heal.Failure  `json:"failures"` // the last announcement of each episode
	Decisions []Chapter       `json:"decisions"`
	Timeline  []Moment        `json:"timeline"`
	Unread    int             `json:"unread,omitempty"` // messages about it that cannot be read
}

// A Chapter is a decision, and what people and the cluster made of it.
// Decisions that say the same one after the other, as a lasting failure is
// judged again and again, are one chapter with the first of them.
type Chapter struct {
	Decision heal.Decision  `json:"decision"`
	At       time.Time      `json:"at"`
	Times    int            `json:"times"`
	Last     time.Time      `json:"last"` // when it was decided for the last time
	Answer   *heal.Approval `json:"answer,omitempty"`
	Result   *heal.Result   `json:"result,omitempty"`
	Undone   []heal.Control `json:"undone,omitempty"` // who asked to take it back, and how that went
}

// A Moment is one line of the timeline.
type Moment struct {
	At    time.Time `json:"at"`
	Stage string    `json:"stage"` // seen, decided, acted, verified, told, people
	Word  string    `json:"word"`  // SEEN, DECIDED, HEALED…
	Head  string    `json:"head,omitempty"`
	Text  string    `json:"text,omitempty"`

	tone timeline.Tone
}

// A Finder tells which messages are about an incident. A failure that was
// counted to an incident that was open already does not name it, nor does a
// person's answer: Look at every message first, then ask which Belong.
type Finder struct {
	incident string
	keys     [][]byte
}

// NewFinder looks for the messages of an incident.
func NewFinder(incident string) *Finder {
	return &Finder{incident: incident, keys: [][]byte{[]byte(incident)}}
}

// Look learns from a decision what belongs to its incident.
func (f *Finder) Look(raw bus.Raw) {
	if !bytes.Contains(raw.Data, f.keys[0]) || record.TypeOf(raw) != heal.TypeDecisionMade {
		return
	}
	e, err := heal.Decode[heal.Decision](raw.Data)
	if err != nil || e.Data.IncidentID != f.incident {
		return
	}
	for _, id := range []string{e.Data.ID, e.Data.Failure.EpisodeID} {
		if !slices.ContainsFunc(f.keys, func(k []byte) bool { return string(k) == id }) {
			f.keys = append(f.keys, []byte(id))
		}
	}
}

// Belongs reports whether the message is about the incident.
func (f *Finder) Belongs(raw bus.Raw) bool {
	return slices.ContainsFunc(f.keys, func(k []byte) bool { return bytes.Contains(raw.Data, k) })
}

// Make puts together what the messages say of an incident. They may come in
// any order, and twice, as the audit stream repeats the others. False: nothing
// is on record.
func Make(raws []bus.Raw, incident, cluster string, now time.Time) (Report, bool) {
	var folder record.Folder
	var told []bus.Raw
	known := map[string]bool{}
	for _, raw := range raws {
		kind := record.TypeOf(raw)
		id := raw.Subject + " " + string(raw.Data)
		if known[id] {
			continue
		}
		known[id] = true
		folder.Add(raw)
		raw.Stream = streamOf(kind, raw.Stream)
		told = append(told, raw)
	}
	r := folder.Record(now)
	i := slices.IndexFunc(r.Incidents, func(i record.Incident) bool { return i.ID == incident })
	if i < 0 {
		return Report{}, false
	}
	out := Report{
		Cluster: cluster, AsOf: now.UTC(), Incident: r.Incidents[i], Unread: r.Unread,
		Failures: []heal.Failure{}, Timeline: moments(told), Decisions: chapters(r, incident),
	}
	for _, f := range r.Failures {
		out.Failures = append(out.Failures, f.Data)
	}
	return out, true
}

// streamOf is the stream that a message of the audit stream was taken from.
func streamOf(kind, stream string) string {
	if stream != bus.Audit[0] {
		return stream
	}
	switch kind {
	case heal.TypeFailureDetected, heal.TypeFailureResolved:
		return bus.Failures.Stream
	case heal.TypeActionCompleted:
		return bus.Results.Stream
	}
	return bus.Decisions.Stream
}

func moments(raws []bus.Raw) []Moment {
	var t timeline.Timeline
	lines := t.Add(raws)
	slices.SortStableFunc(lines, func(a, b timeline.Line) int { return a.At.Compare(b.At) })
	all := []Moment{}
	for _, l := range lines {
		all = append(all, Moment{At: l.At.UTC(), Stage: stageName(l.Stage), Word: l.Word, Head: l.Head, Text: l.Text, tone: l.Tone})
	}
	return all
}

func stageName(s timeline.Stage) string {
	switch s {
	case timeline.Seen:
		return "seen"
	case timeline.Decided:
		return "decided"
	case timeline.Acted:
		return "acted"
	case timeline.Verified:
		return "verified"
	case timeline.Told:
		return "told"
	}
	return "people"
}

func chapters(r record.Record, incident string) []Chapter {
	all := []Chapter{}
	for _, e := range r.Decisions {
		d := e.Data
		if d.IncidentID != incident {
			continue
		}
		c := Chapter{Decision: d, At: e.Time, Times: 1, Last: e.Time, Answer: r.AnswerTo(d.ID), Result: r.ResultOf(d.ID)}
		for _, control := range r.Controls {
			if control.Data.DecisionID == d.ID {
				c.Undone = append(c.Undone, control.Data)
			}
		}
		if last := len(all) - 1; last >= 0 && all[last].again(c) {
			all[last].Times++
			all[last].Last = c.At
			continue
		}
		all = append(all, c)
	}
	return all
}

// again reports whether next only repeats that nothing is done, and why.
func (c Chapter) again(next Chapter) bool {
	a, b := c.Decision, next.Decision
	return !a.Acts() && !b.Acts() && a.Target.Same(b.Target) && a.Strategy == b.Strategy && a.Reason == b.Reason &&
		a.Severity == b.Severity && a.Mode == b.Mode && refused(a) == refused(b)
}

func refused(d heal.Decision) string {
	var names []string
	for _, g := range d.Guards {
		if !g.Allowed {
			names = append(names, g.Name)
		}
	}
	return strings.Join(names, ",")
}

// ended is when the incident was over, if it is.
func (r Report) ended() (time.Time, bool) { return r.Incident.Changed, r.Incident.State.Over() }

// span says how long after the incident was opened t is.
func (r Report) span(t time.Time) string { return timeline.Duration(t.Sub(r.Incident.Opened)) }

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func sentence(format string, args ...any) string {
	return heal.Clean(fmt.Sprintf(format, args...), 2048)
}
