// Package screen writes lines to a terminal or to anything else. On a
// terminal it knows colours, the width, and one footer line that stays below
// whatever is printed; elsewhere the same lines come out plain, without any
// escape sequence, and there is no footer.
//
// A Screen is safe for concurrent use; what one call prints stays together.
package screen

import (
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// A Screen is somewhere to print to.
type Screen struct {
	w     io.Writer
	color bool
	width func() int // 0: as wide as it takes; nil never

	mu     sync.Mutex
	footer string // as shown now; guarded by mu
}

// For returns a screen on f: with colours and footer if f is a terminal and
// neither plain nor $NO_COLOR (https://no-color.org) forbids it.
func For(f *os.File, plain bool) *Screen {
	s := &Screen{w: f, width: func() int { return 0 }}
	if !term.IsTerminal(int(f.Fd())) {
		return s
	}
	s.width = func() int {
		w, _, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 0
		}
		return w
	}
	s.color = !plain && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// To returns a plain screen on any writer, for tests and files.
func To(w io.Writer) *Screen { return &Screen{w: w, width: func() int { return 0 }} }

// Paint returns the palette that suits the screen.
func (s *Screen) Paint() Paint { return Paint{on: s.color} }

// Width is how many columns there are now, or 0 for no limit.
func (s *Screen) Width() int { return s.width() }

// Println prints text, which may hold several lines, above the footer.
func (s *Screen) Println(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.write(clearLine(s.footer) + text + "\n" + s.footer)
}

// Footer replaces the line below everything; an empty one removes it. It has
// no effect without colours, as it needs the same escape sequences.
func (s *Screen) Footer(text string) {
	if !s.color {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if text == s.footer {
		return
	}
	s.write(clearLine(s.footer) + text)
	s.footer = text
}

// write sends everything in one piece, so that a terminal never shows half of
// a change. There is nobody to tell when the terminal itself is gone.
func (s *Screen) write(text string) { _, _ = io.WriteString(s.w, text) }

func clearLine(footer string) string {
	if footer == "" {
		return ""
	}
	return "\r\x1b[2K"
}

// Paint colours text, or leaves it alone.
type Paint struct{ on bool }

// The palette: the sixteen colours that every terminal theme defines.
const (
	Bold    = "1"
	Dim     = "2"
	Red     = "31"
	Green   = "32"
	Yellow  = "33"
	Blue    = "34"
	Magenta = "35"
	Cyan    = "36"
)

// As returns text in the given attributes, such as Bold and Red.
func (p Paint) As(text string, attributes ...string) string {
	if !p.on || text == "" || len(attributes) == 0 {
		return text
	}
	return "\x1b[" + strings.Join(attributes, ";") + "m" + text + "\x1b[0m"
}

// Wrap breaks text at spaces so that no line is longer than width columns,
// and indents all lines but the first by indent columns. On the first line
// indent+used columns are taken already. A width too small to be of use is no
// limit.
func Wrap(text string, width, indent, used int) string {
	room := width - indent
	if room < 20 {
		return text
	}
	var b strings.Builder
	next := func() {
		b.WriteString("\n" + strings.Repeat(" ", indent))
		used = 0
	}
	for i, word := range strings.Fields(text) {
		r := []rune(word)
		switch space := min(i, 1); {
		case used > 0 && used+space+len(r) > room:
			next()
		case space > 0:
			b.WriteByte(' ')
			used++
		}
		for len(r) > room { // longer than a line by itself
			b.WriteString(string(r[:room]))
			next()
			r = r[room:]
		}
		b.WriteString(string(r))
		used += len(r)
	}
	return b.String()
}

// Cut shortens text to n columns, ending in "…" if something is missing. No
// room at all is no limit.
func Cut(text string, n int) string {
	r := []rune(text)
	if n <= 0 || len(r) <= n {
		return text
	}
	return string(r[:n-1]) + "…"
}
