// Package table sets rows in columns, for people and for spreadsheets.
package table

import (
	"encoding/csv"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Writer writes rows below the names of their columns. Columns keep the
// widths they have had, so that rows which come later stand below the others.
type Writer struct {
	w      io.Writer
	names  []string
	widths []int
	headed bool
}

// New returns a writer to w.
func New(w io.Writer, names ...string) *Writer {
	t := &Writer{w: w, names: names, widths: make([]int, len(names))}
	t.measure(names)
	return t
}

func (t *Writer) measure(row []string) {
	for i, cell := range row {
		t.widths[i] = max(t.widths[i], utf8.RuneCountInString(cell))
	}
}

// Write writes rows, each as long as there are columns. The names of the
// columns come before the first.
func (t *Writer) Write(rows ...[]string) error {
	if len(rows) == 0 {
		return nil
	}
	rows = clean(rows)
	for _, row := range rows {
		t.measure(row)
	}
	var b strings.Builder
	if !t.headed {
		t.headed = true
		t.line(&b, t.names)
	}
	for _, row := range rows {
		t.line(&b, row)
	}
	_, err := io.WriteString(t.w, b.String())
	return err
}

// clean takes out of the cells what a terminal would obey: whoever may create
// a pod chooses such text.
func clean(rows [][]string) [][]string {
	const longest = 1024
	all := make([][]string, len(rows))
	for i, row := range rows {
		for _, cell := range row {
			all[i] = append(all[i], heal.Clean(cell, longest))
		}
	}
	return all
}

const gap = 2

func (t *Writer) line(b *strings.Builder, row []string) {
	blank := 0
	for i, cell := range row {
		if cell == "" {
			cell = "-"
		}
		b.WriteString(strings.Repeat(" ", blank) + cell)
		blank = gap + t.widths[i] - utf8.RuneCountInString(cell)
	}
	b.WriteByte('\n')
}

// A CSV writes rows as RFC 4180 has them, with the names of the columns first.
type CSV struct{ w *csv.Writer }

// NewCSV returns a writer to w, and writes the names.
func NewCSV(w io.Writer, names ...string) (*CSV, error) {
	c := &CSV{csv.NewWriter(w)}
	return c, c.Write(names)
}

// Write writes rows at once. A cell that a spreadsheet would take for a
// formula (https://owasp.org/www-community/attacks/CSV_Injection) gets an
// apostrophe before it.
func (c *CSV) Write(rows ...[]string) error {
	for _, row := range clean(rows) {
		safe := make([]string, len(row))
		for i, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@", rune(cell[0])) {
				cell = "'" + cell
			}
			safe[i] = cell
		}
		if err := c.w.Write(safe); err != nil {
			return err
		}
	}
	c.w.Flush()
	return c.w.Error()
}
