package timeline

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/selfheal/selfheal/cli/internal/screen"
)

// A Style lays lines out.
type Style struct {
	Start time.Time // times are told relative to it; zero tells the time of day
	Width int       // columns to stay within; 0 is no limit
	Paint screen.Paint
}

// Header names the columns.
func (s Style) Header() string {
	return s.Paint.As(fmt.Sprintf("%8s  %-9s  %-8s  %-2s  %s", "time", "s d a v t", "what", "", "seen · decided · acted · verified · told"), screen.Dim)
}

// The columns before the text: time, stages, word, tag, and what separates them.
const textColumn = 8 + 2 + 2*int(stages) - 1 + 2 + 8 + 2 + 2 + 2

// Format writes a line, wrapped below its text.
func (s Style) Format(l Line) string {
	var b strings.Builder
	b.WriteString(s.Paint.As(s.time(l.At), screen.Dim) + "  ")
	for stage := range stages {
		if stage > 0 {
			b.WriteByte(' ')
		}
		if stage == l.Stage {
			b.WriteString(s.Paint.As(glyph(l), tones[l.Tone]...))
		} else {
			b.WriteString(s.Paint.As("·", screen.Dim))
		}
	}
	tag := tag(l.Incident)
	b.WriteString("  " + s.Paint.As(pad(l.Word, 8), tones[l.Tone]...))
	b.WriteString("  " + s.Paint.As(pad(tag, 2), tagColors(l.Incident)...) + "  ")

	const gap = "  "
	head := screen.Cut(l.Head, s.Width-textColumn)
	used := utf8.RuneCountInString(head)
	if head != "" {
		used += len(gap)
	}
	text := screen.Wrap(l.Text, s.Width, textColumn, used)
	b.WriteString(s.Paint.As(head, s.headColors(l)...))
	if head != "" && !strings.HasPrefix(text, "\n") {
		b.WriteString(gap)
	}
	b.WriteString(s.paintText(l.Tone, text))
	return strings.TrimRight(b.String(), " ")
}

// paintText dims quiet text, each line by itself so that the spaces before the
// next one stay as they are.
func (s Style) paintText(t Tone, text string) string {
	if t != Quiet {
		return text
	}
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = s.Paint.As(lines[i], screen.Dim)
	}
	return strings.Join(lines, "\n")
}

func (s Style) time(at time.Time) string {
	if s.Start.IsZero() {
		return at.Local().Format(time.TimeOnly)
	}
	return fmt.Sprintf("+%6.1fs", max(0, at.Sub(s.Start).Seconds()))
}

func (s Style) headColors(l Line) []string {
	if l.Stage == Decided {
		return []string{screen.Bold}
	}
	return tagColors(l.Incident)
}

func glyph(l Line) string {
	switch {
	case l.Tone == Good:
		return "✓"
	case l.Stage != Seen && l.Tone == Bad:
		return "✗"
	case l.Tone == Quiet && l.Stage != Told:
		return "○"
	}
	return "●"
}

var tones = map[Tone][]string{
	Plain: {screen.Bold},
	Quiet: {screen.Dim},
	Bad:   {screen.Bold, screen.Red},
	Good:  {screen.Bold, screen.Green},
	Warn:  {screen.Bold, screen.Yellow},
}

// The colours of incidents: the ones that tones leave free.
var palette = []string{screen.Cyan, screen.Magenta, screen.Blue, "96", "95", "94"}

func tagColors(incident int) []string {
	if incident == 0 {
		return nil
	}
	return []string{screen.Bold, palette[(incident-1)%len(palette)]}
}

// tag is A to Z, then AA, AB…: an incident's name for as long as one looks at
// the screen.
func tag(incident int) string {
	var t string
	for ; incident > 0; incident = (incident - 1) / 26 {
		t = string(rune('A'+(incident-1)%26)) + t
	}
	return t
}

func pad(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-utf8.RuneCountInString(s)))
}
