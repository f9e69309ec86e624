package demo

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/cli/internal/timeline"
)

// A played scenario is one with how it went.
type played struct {
	scenario scenario
	o        observation
	err      error // it did not come to its end
}

// ending is how it ended.
func (p played) ending() ending {
	switch {
	case p.err != nil:
		return neither
	case !p.o.HandedOver.IsZero() && !p.o.rolledBack():
		return handedOver
	case !p.o.Healed.IsZero():
		return healed
	}
	return neither
}

// right reports whether it ended as it should.
func (p played) right() bool { return p.ending() == p.scenario.wants }

// outcome is the ending in words.
func (p played) outcome() string {
	switch e := p.ending(); {
	case e == neither && p.err != nil:
		return "NOT AS IT SHOULD: " + p.err.Error()
	case !p.right():
		return fmt.Sprintf("NOT AS IT SHOULD: %s, want %s", e, p.scenario.wants)
	case e == handedOver:
		return "not healed by a restart → handed to a person after " + p.since(p.o.HandedOver) + ", as it should be"
	}
	return "healed"
}

// since is how long after the break something happened.
func (p played) since(t time.Time) string {
	if t.IsZero() {
		return "–"
	}
	return timeline.Duration(t.Sub(p.o.Broken))
}

// row is the scenario's line of the table.
func (p played) row() []string {
	writes := p.o.writes()
	if writes == "" {
		writes = "–"
	}
	return []string{p.scenario.name, p.since(p.o.Seen), p.since(p.o.Decided), p.since(p.o.Acted), p.since(p.verified()), writes}
}

// verified is when it was proven that the recovery helped. What seemed to help
// and was handed over in the end was not.
func (p played) verified() time.Time {
	if p.ending() == handedOver {
		return time.Time{}
	}
	return p.o.Healed
}

var columns = []string{"scenario", "seen", "decided", "acted", "verified", "changes made"}

// table lays the scenarios out, each with its outcome below.
func table(paint screen.Paint, all []played) string {
	rows := [][]string{columns}
	for _, p := range all {
		rows = append(rows, p.row())
	}
	widths := make([]int, len(columns))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for n, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 || i == len(row)-1 {
				cells[i] = cell + space
			} else {
				cells[i] = space + cell
			}
		}
		line := "  " + strings.TrimRight(strings.Join(cells, "   "), " ")
		if n == 0 {
			b.WriteString(paint.As(line, screen.Dim) + "\n")
			continue
		}
		b.WriteString(paint.As(line, screen.Bold) + "\n")
		p := all[n-1]
		mark, color := "✓", screen.Green
		if !p.right() {
			mark, color = "✗", screen.Red
		}
		b.WriteString("    " + paint.As(mark+" "+p.outcome(), color) + "\n")
	}
	return b.String()
}

// allRight reports whether as many scenarios were played as were to be, and
// ended as they should.
func allRight(all []played, planned int) bool {
	for _, p := range all {
		if !p.right() {
			return false
		}
	}
	return len(all) == planned
}

// conclusion is the verdict in one line.
func conclusion(paint screen.Paint, all []played, planned int) string {
	if allRight(all, planned) {
		return "  " + paint.As("Everything ended as it should.", screen.Bold, screen.Green)
	}
	text := "Not everything ended as it should."
	if n := planned - len(all); n > 0 {
		text += fmt.Sprintf(" %d of %d scenarios were not played.", n, planned)
	}
	return "  " + paint.As(text, screen.Bold, screen.Red)
}
