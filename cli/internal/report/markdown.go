package report

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Markdown writes the report for an issue, a wiki or a terminal.
func (r Report) Markdown(w io.Writer) error {
	p := r.page()
	m := markdown{bufio.NewWriter(w)}
	m.line("# %s", p.Title)
	m.line("\n**%s.**", p.State)
	for _, f := range p.Lead {
		m.line("- **%s** %s", f.Name, f.Text)
	}
	m.line("\n| | |\n|---|---|")
	for _, f := range append(p.Facts, p.Stats...) {
		m.line("| %s | %s |", f.Name, f.Text)
	}
	m.line("\n## Timeline\n\n| time (UTC) | after | | |\n|---|---|---|---|")
	for _, e := range p.Timeline {
		m.line("| %s | %s | %s | %s |", e.Clock, e.After, e.Word, joined(e.Head, e.Text))
	}
	m.line("\n## Cause and evidence\n\n%s.", p.Cause)
	for _, b := range p.Because {
		m.line("- %s", b)
	}
	for _, f := range p.Failures {
		m.line("\n### %s\n\n%s (%s)\n\n| | |\n|---|---|", f.Object, f.What, f.When)
		for _, e := range append(f.Evidence, f.More...) {
			m.line("| %s | %s |", e.Name, e.Text)
		}
	}
	m.line("\n## What was decided and done")
	if len(p.Chapters) == 0 {
		m.line("\nNothing yet.")
	}
	for _, c := range p.Chapters {
		m.chapter(c)
	}
	m.line("\n---\n%s %s", p.Made, p.Unread)
	return m.w.Flush()
}

// markdown writes lines; what fills a format is text, and never markup.
type markdown struct{ w *bufio.Writer }

func (m markdown) line(format string, args ...any) {
	for i, a := range args {
		args[i] = plain.Replace(fmt.Sprint(a))
	}
	fmt.Fprintf(m.w, format+"\n", args...) // an error stays with the writer until Flush
}

// plain takes their meaning from all characters that have one, and the link
// from addresses, which GitHub makes of bare ones. A mention loses its name by
// a character between.
var plain = strings.NewReplacer(
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "{", `\{`, "}", `\}`, "[", `\[`, "]", `\]`, "<", "&lt;", ">", "&gt;", "#", `\#`,
	"|", `\|`, "~", `\~`, "!", `\!`, "&", "&amp;", "$", `\$`, "://", `:\//`, "www.", `www\.`, "@", "@\u200b",
)

// code is a command on a line of its own.
func (m markdown) code(text string) {
	fmt.Fprintf(m.w, "\n      %s\n", text) // by its margin it is code, whatever is in it; the text is one line
}

func joined(head, text string) string { return strings.TrimSpace(head + " " + text) }

func (m markdown) chapter(c chapter) {
	m.line("\n### %s: %s\n\n%s, %s (%s)", c.Strategy, c.Ending, c.Target, c.At, c.ID)
	if c.Why != "" {
		m.line("\n%s", c.Why)
	}
	if len(c.Steps) > 0 {
		m.line("")
	}
	for _, s := range c.Steps {
		m.line("1. %s", s) // Markdown counts by itself
	}
	m.line("")
	for _, g := range c.Refused {
		m.line("- **refused by %s:** %s", g.Name, g.Text)
	}
	for _, g := range c.Allowed {
		m.line("- allowed by %s: %s", g.Name, g.Text)
	}
	if c.Answer != "" {
		m.line("- %s", c.Answer)
	}
	for _, f := range c.Facts {
		m.line("- %s: %s", f.Name, f.Text)
	}
	if len(c.Did) > 0 {
		m.line("\n| step | | took | |\n|---|---|---|---|")
	}
	for _, s := range c.Did {
		m.line("| %s | %s | %s | %s |", s.Name, s.Status, s.Took, s.Detail)
	}
	if c.Message != "" {
		m.line("\n**%s:** %s", c.Ending, c.Message)
	}
	if c.Proof != "" {
		m.line("\n%s\n", c.Proof)
	}
	for _, k := range c.Checks {
		mark := "[ ]"
		if k.Passed {
			mark = "[x]"
		}
		fmt.Fprintf(m.w, "- %s ", mark)
		m.line("%s: %s", k.Name, k.Observed)
	}
	if c.Undo != "" {
		m.line("\n**To take it back:** %s", c.Undo)
	}
	if c.UndoBy != "" {
		m.code(c.UndoBy)
	}
	for _, u := range c.Undone {
		m.line("\n%s", u)
	}
	if c.Kept != "" {
		m.line("\n%s", c.Kept)
		m.code(c.KeptBy)
	}
}
