package guide

import (
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A page is a Markdown file, by its path from the root.
type page struct {
	name string
	text string
}

// readPages are the pages that users are pointed to: README.md and all of docs.
func readPages(t *testing.T) []page {
	t.Helper()
	names := []string{"README.md"}
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(path string, _ fs.DirEntry, err error) error {
		if err == nil && filepath.Ext(path) == ".md" {
			name, relErr := filepath.Rel(root, path)
			names, err = append(names, filepath.ToSlash(name)), relErr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []page
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page{name, string(text)})
	}
	return all
}

// A passage is a stretch of a page's lines, in a fence or outside of any.
type passage struct {
	line     int    // of its first line
	fenced   bool   //
	language string // of a fence
	lines    []string
}

func (p page) passages() []passage {
	all := []passage{{line: 1}}
	n := 0
	for line := range strings.Lines(p.text) {
		n++
		line = strings.TrimRight(line, "\n")
		info, mark := strings.CutPrefix(line, "```")
		last := &all[len(all)-1]
		switch {
		case mark && last.fenced:
			all = append(all, passage{line: n + 1})
		case mark:
			all = append(all, passage{line: n + 1, fenced: true, language: info})
		default:
			last.lines = append(last.lines, line)
		}
	}
	return all
}

// A fate is what a command is said to come to.
type fate string

// The fates. What is not remarked upon must work.
const (
	works       fate = ""
	fails       fate = "exit code"
	refused     fate = "is refused"
	interrupted fate = "until Ctrl-C"
	untried     fate = "not tried"
)

// A remark is what a page says of a command in a comment.
type remark struct {
	fate fate
	why  string // it is not tried, or its exit code
}

// remarks are how pages say it.
var remarks = []struct {
	fate fate
	is   *regexp.Regexp
}{
	{untried, regexp.MustCompile(`\bnot tried[^:)]*: ([^)]+)`)},
	{fails, regexp.MustCompile(`\bexit code (\d+)()`)},
	{refused, regexp.MustCompile(`\bis refused()`)},
	{interrupted, regexp.MustCompile(`\buntil (?:\w+ or )?Ctrl-C()`)},
}

// comment is one of the shell's, alone or at the end of a line.
var comment = regexp.MustCompile(`(?:^|\s)# (.*)$`)

// remarkOf is what the comment of a line says of the command.
func remarkOf(line string) remark {
	if c := comment.FindStringSubmatch(line); c != nil {
		for _, r := range remarks {
			if m := r.is.FindStringSubmatch(c[1]); m != nil {
				return remark{r.fate, m[1]}
			}
		}
	}
	return remark{}
}

// A command is one of a page's, as a shell takes it: perhaps of several lines.
type command struct {
	page string
	line int
	text string
	remark
}

func (c command) String() string { return fmt.Sprintf("%s:%d: %s", c.page, c.line, c.text) }

// commands are those of the page's fences for a shell. A comment on a line of
// its own is about the command that follows.
func (p page) commands(t *testing.T) []command {
	t.Helper()
	var all []command
	for _, part := range p.passages() {
		if part.language != "sh" && part.language != "console" {
			continue
		}
		var open []string
		var said remark
		for i, line := range part.lines {
			trimmed := strings.TrimSpace(line)
			switch {
			case len(open) == 0 && trimmed == "":
				continue
			case len(open) == 0 && strings.HasPrefix(trimmed, "#"):
				said = remarkOf(trimmed)
				continue
			}
			open = append(open, line)
			text := strings.Join(open, "\n")
			if !whole(t, text) {
				continue
			}
			if r := remarkOf(line); r != (remark{}) {
				said = r
			}
			all = append(all, command{p.name, part.line + i + 1 - len(open), text, said})
			open, said = nil, remark{}
		}
		if len(open) > 0 {
			t.Errorf("%s:%d: the command does not end: %s", p.name, part.line, strings.Join(open, "\n"))
		}
	}
	return all
}

// whole reports whether a shell could run the text as it is: no quote, here
// document or loop is still open.
func whole(t *testing.T, text string) bool {
	t.Helper()
	if strings.HasSuffix(text, `\`) {
		return false
	}
	cmd := exec.CommandContext(t.Context(), "bash", "-n")
	cmd.Stdin = strings.NewReader(text + "\n")
	out, err := cmd.CombinedOutput() // a warning, for a here document
	return err == nil && len(out) == 0
}

// tools are what the pages' commands begin with, after settings of variables.
var tools = regexp.MustCompile(`^(\$ )?([A-Z_]+=\S* )*((bin/)?selfheal|kubectl|nats|helm|make|curl|go|bin/\w+|export) [a-z./-]`)

func TestWhatLooksLikeACommandIsOne(t *testing.T) {
	for _, p := range readPages(t) {
		if p.name == "docs/cli.md" {
			continue // its other fences are the commands' help, with how each is used
		}
		for _, part := range p.passages() {
			if !part.fenced || part.language == "sh" || part.language == "console" {
				continue
			}
			for i, line := range part.lines {
				if tools.MatchString(line) {
					t.Errorf("%s:%d: %q is in a fence that is not for a shell, so nobody tries it; open it with ```sh", p.name, part.line+i, line)
				}
			}
		}
	}
}

// headings are the anchors of a page, as GitHub and its like make them.
func (p page) headings() []string {
	drop := regexp.MustCompile(`[^\p{L}\p{N} _-]`)
	var all []string
	for _, part := range p.passages() {
		for _, line := range part.lines {
			title := strings.TrimLeft(line, "#")
			if part.fenced || title == line || !strings.HasPrefix(title, " ") {
				continue
			}
			all = append(all, strings.ReplaceAll(drop.ReplaceAllString(strings.ToLower(strings.TrimSpace(title)), ""), " ", "-"))
		}
	}
	return all
}

// link is one of Markdown's, or the source of a picture.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	pages := readPages(t)
	for _, name := range []string{"CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "deploy/helm/self-healing/README.md", "dev/cluster/README.md"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, page{name, string(text)})
	}
	anchors := map[string][]string{}
	for _, p := range pages {
		anchors[p.name] = p.headings()
	}
	found, linked := 0, map[string]bool{}
	for _, p := range pages {
		for _, part := range p.passages() {
			if part.fenced {
				continue
			}
			for i, line := range part.lines {
				for _, m := range link.FindAllStringSubmatch(line, -1) {
					if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
						continue // of others
					}
					found++
					file, anchor, _ := strings.Cut(m[1], "#")
					at := p.name
					if file != "" {
						at = filepath.ToSlash(filepath.Join(filepath.Dir(p.name), file))
					}
					if p.name == "docs/README.md" {
						linked[at] = true
					}
					if _, err := os.Stat(filepath.Join(root, at)); err != nil {
						t.Errorf("%s:%d: nothing is at %s", p.name, part.line+i, m[1])
					} else if known, ok := anchors[at]; ok && anchor != "" && !slices.Contains(known, anchor) {
						t.Errorf("%s:%d: %s has no heading #%s", p.name, part.line+i, at, anchor)
					}
				}
			}
		}
	}
	for _, p := range pages {
		if dir := filepath.Dir(p.name); dir == "docs" && p.name != "docs/README.md" && !linked[p.name] {
			t.Errorf("docs/README.md, the index, does not name %s", p.name)
		}
	}
	t.Logf("%d links within the repository, on %d pages", found, len(pages))
}

// inline is code within a text.
var inline = regexp.MustCompile("`((?:bin/|kubectl )?selfheal [^`]+)`")

// Commands in running text are not carried out, but the command and its flags
// must be there: with --help nothing else is looked at.
func TestEveryCommandWithinATextExists(t *testing.T) {
	t.Parallel()
	binary, err := filepath.Abs(filepath.Join(root, "bin", "selfheal"))
	if err != nil {
		t.Fatal(err)
	}
	tried, found := map[string]bool{}, 0
	for _, p := range readPages(t) {
		for _, part := range p.passages() {
			if part.fenced {
				continue
			}
			for i, line := range part.lines {
				for _, m := range inline.FindAllStringSubmatch(line, -1) {
					found++
					_, rest, _ := strings.Cut(m[1], "selfheal ")
					rest, _, _ = strings.Cut(rest, " | ")
					var args []string
					for _, word := range strings.Fields(rest) {
						// Verbs and flags decide; all else stands for something.
						if strings.HasPrefix(word, "-") || regexp.MustCompile(`^[a-z]+$`).MatchString(word) {
							args = append(args, strings.Trim(word, `"'`))
						} else if len(args) > 0 && strings.HasPrefix(args[len(args)-1], "-") {
							args = append(args, strings.Trim(word, `"'`))
						}
					}
					key := strings.Join(args, " ")
					if tried[key] {
						continue
					}
					tried[key] = true
					cmd := exec.CommandContext(t.Context(), binary, append(args, "--help")...)
					cmd.Dir = t.TempDir()
					if out, err := cmd.CombinedOutput(); err != nil {
						t.Errorf("%s:%d: `%s`: %v\n%s", p.name, part.line+i, m[1], err, out)
					}
				}
			}
		}
	}
	t.Logf("%d commands of selfheal within texts, %d different ones", found, len(tried))
}
