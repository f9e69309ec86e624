// Package board is the live view of a terminal: the stages, the incidents, and
// keys to answer a decision and to pause. It is a pure function of what it is
// shown and which keys were pressed; who runs it draws the lines and does what
// a person has confirmed.
package board

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/selfheal/selfheal/cli/internal/overview"
	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/pkg/heal"
)

// A View is what there is to show.
type View struct {
	Status    overview.Status
	Incidents []record.Incident
	Counts    Counts
	Problem   string // why it may be out of date
}

// Counts are how many messages each stage has written since the beginning.
type Counts struct{ Seen, Decided, Ended int }

// A Verb is what a person wants done.
type Verb string

// The verbs.
const (
	Nothing Verb = ""
	Quit    Verb = "quit"
	Approve Verb = "approve"
	Reject  Verb = "reject"
	Pause   Verb = "pause"
	Resume  Verb = "resume"
)

// A Wish is a verb, and the decision that it is about.
type Wish struct {
	Verb     Verb
	Decision string
	about    string
}

// A Board is the state of the view. The zero value is ready for use by one
// goroutine.
type Board struct {
	view     View
	selected string // incident id
	asking   Wish   // waits for a yes
	said     string // what became of the last wish
}

// Show replaces what is shown. The selected incident stays selected.
func (b *Board) Show(v View) {
	rank := func(i record.Incident) int {
		return slices.Index([]record.State{record.Waiting, record.Acting, record.GivenUp, record.Open, record.Healed, record.Recovered}, i.State)
	}
	v.Incidents = slices.Clone(v.Incidents)
	slices.SortStableFunc(v.Incidents, func(a, b record.Incident) int { // what asks for a person comes first, then the latest
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		return b.Changed.Compare(a.Changed)
	})
	b.view = v
	if len(v.Incidents) > 0 && b.index() < 0 {
		b.selected = v.Incidents[0].ID
	}
}

// Say shows what became of a wish.
func (b *Board) Say(text string) { b.said = text }

func (b *Board) index() int {
	return slices.IndexFunc(b.view.Incidents, func(i record.Incident) bool { return i.ID == b.selected })
}

// Key takes a key, as the terminal sends it, and returns what is to be done.
func (b *Board) Key(key string) Wish {
	if b.asking.Verb != Nothing {
		wish := b.asking
		b.asking = Wish{}
		if key == "y" {
			return wish
		}
		b.said = "not done: " + string(wish.Verb)
		return Wish{}
	}
	b.said = ""
	switch key {
	case "q", "\x03", "\x04": // also ctrl-c and ctrl-d
		return Wish{Verb: Quit}
	case "j", "\x1b[B", "\x1bOB":
		b.move(1)
	case "k", "\x1b[A", "\x1bOA":
		b.move(-1)
	case "a":
		b.answer(Approve)
	case "r":
		b.answer(Reject)
	case "p":
		b.asking = Wish{Verb: Pause, about: "all acting on cluster " + b.view.Status.Cluster}
	case "u":
		b.asking = Wish{Verb: Resume, about: "acting on cluster " + b.view.Status.Cluster}
	}
	return Wish{}
}

func (b *Board) move(by int) {
	if n := len(b.view.Incidents); n > 0 {
		b.selected = b.view.Incidents[min(max(b.index()+by, 0), n-1)].ID
	}
}

// answer asks whether the person means it.
func (b *Board) answer(v Verb) {
	i := b.index()
	if i < 0 || b.view.Incidents[i].State != record.Waiting {
		b.said = "this incident does not wait for an answer"
		return
	}
	chosen := b.view.Incidents[i]
	b.asking = Wish{Verb: v, Decision: chosen.DecisionID, about: fmt.Sprintf("%s of %s", chosen.Strategy, chosen.Object)}
}

const keys = "↑↓ select   a approve   r reject   p pause   u resume   q quit"

// Lines draws the view on a screen of that size: no line is wider, and there
// are no more of them.
func (b *Board) Lines(width, height int, paint screen.Paint, now time.Time) []string {
	width, height = max(width, 40), max(height, 12)
	cut := func(text string) string { return screen.Cut(text, width) }
	s := b.view.Status
	acting, tone := "acting is allowed", screen.Green
	if s.Paused != nil {
		acting, tone = "acting is "+overview.Says(*s.Paused), screen.Yellow
	}
	head := fmt.Sprintf("selfheal · cluster %s · nats %s", s.Cluster, s.NATS.Version)
	at := now.UTC().Format(time.TimeOnly + " MST")
	lines := []string{
		paint.As(cut(spread(head, at, width)), screen.Bold),
		paint.As(cut(acting), tone),
		paint.As(cut(s.Sight), sightTone(s.SeesClearly)),
		"",
	}
	lines = append(lines, b.stages(width, paint)...)
	lines = append(lines, "", paint.As(cut(b.summary()), screen.Bold))

	foot := b.foot(width, paint)
	room := height - len(lines) - len(foot)
	lines = append(lines, b.incidents(width, max(room, 1), paint)...)
	for len(lines) < height-len(foot) {
		lines = append(lines, "")
	}
	return append(lines, foot...)[:height]
}

func sightTone(clear bool) string {
	if clear {
		return screen.Dim
	}
	return screen.Red
}

// spread puts one text at each end of a line.
func spread(left, right string, width int) string {
	return left + strings.Repeat(" ", max(1, width-utf8.RuneCountInString(left)-utf8.RuneCountInString(right))) + right
}

// stages is the pipeline, and below it what each has done and what waits.
func (b *Board) stages(width int, paint screen.Paint) []string {
	c := b.view.Counts
	did := map[string]string{
		"watcher":  fmt.Sprintf("%d seen", c.Seen),
		"analyzer": fmt.Sprintf("%d decided", c.Decided),
		"actuator": fmt.Sprintf("%d ended", c.Ended),
	}
	var names, done, waits strings.Builder
	for i, service := range []string{"watcher", "analyzer", "actuator", "notifier"} {
		var pending, hand int
		listens, places := true, 0
		for _, st := range b.view.Status.Stages {
			if st.Service == service {
				places++
				pending += int(st.Pending)
				hand += st.InHand
				listens = listens && st.Listens
			}
		}
		arrow := "──▶ "
		if i == 0 {
			arrow = ""
		}
		state := fmt.Sprintf("%d wait, %d in hand", pending, hand)
		switch {
		case service == "watcher":
			state = ""
		case places == 0 || !listens:
			state = fmt.Sprintf("%d wait, NOBODY", pending)
		}
		column := min(max(width/4, 20), 26)
		pad := func(text string) string { return fmt.Sprintf("%-*s", column, screen.Cut(text, column-1)) }
		names.WriteString(pad(arrow + service))
		indent := strings.Repeat(" ", utf8.RuneCountInString(arrow))
		done.WriteString(pad(indent + did[service]))
		waits.WriteString(pad(indent + state))
	}
	return []string{
		paint.As(screen.Cut(strings.TrimRight(names.String(), " "), width), screen.Cyan),
		screen.Cut(strings.TrimRight(done.String(), " "), width),
		paint.As(screen.Cut(strings.TrimRight(waits.String(), " "), width), screen.Dim),
	}
}

func (b *Board) summary() string {
	var said []string
	for _, st := range record.States {
		if n := b.view.Status.Incidents[st]; n > 0 {
			said = append(said, fmt.Sprintf("%d %s", n, strings.ReplaceAll(string(st), "_", " ")))
		}
	}
	if len(said) == 0 {
		return "no incidents"
	}
	text := "incidents: " + strings.Join(said, ", ")
	if n := b.view.Status.DeadLetters; n > 0 {
		text += fmt.Sprintf(" · %d dead letters", n)
	}
	return text
}

var tones = map[record.State]string{
	record.Open: screen.Red, record.GivenUp: screen.Red, record.Waiting: screen.Yellow,
	record.Acting: screen.Cyan, record.Healed: screen.Green, record.Recovered: screen.Dim,
}

// incidents are the rows around the selected one.
func (b *Board) incidents(width, room int, paint screen.Paint) []string {
	all := b.view.Incidents
	at := max(b.index(), 0)
	first := min(max(0, at-room/2), max(0, len(all)-room))
	var lines []string
	for n, i := range all[first:min(len(all), first+room)] {
		mark := "  "
		if first+n == at {
			mark = "▸ "
		}
		text := fmt.Sprintf("%s  %-9s  %-8s  %s  %s", i.Opened.UTC().Format(time.TimeOnly), strings.ReplaceAll(string(i.State), "_", " "), i.Severity, i.Object, i.Reason)
		if i.Strategy != "" {
			text += " → " + string(i.Strategy)
		}
		line := paint.As(screen.Cut(mark+heal.Clean(text, 1024), width), tones[i.State])
		lines = append(lines, line)
	}
	return lines
}

// foot is what there is to say about the selected incident, and the keys.
func (b *Board) foot(width int, paint screen.Paint) []string {
	about := ""
	if i := b.index(); i >= 0 {
		sel := b.view.Incidents[i]
		about = fmt.Sprintf("%s: %s", sel.ID, heal.Clean(sel.Message, heal.MaxText))
	}
	last := paint.As(screen.Cut(keys, width), screen.Dim)
	switch {
	case b.asking.Verb != Nothing:
		last = paint.As(screen.Cut(fmt.Sprintf("%s %s? y for yes, any other key for no", b.asking.Verb, b.asking.about), width), screen.Bold, screen.Yellow)
	case b.said != "":
		last = paint.As(screen.Cut(b.said, width), screen.Yellow)
	case b.view.Problem != "":
		last = paint.As(screen.Cut(b.view.Problem, width), screen.Red)
	}
	return []string{"", screen.Cut(about, width), last}
}
