// Package guide holds the pages to their word. Every example of docs/extend.md
// is put into the tree as it stands there, compiled, and its test is run. Every
// command of README.md and docs is carried out, by the real programs on a real
// cluster, unless the page says that it is not tried, and why. Every link leads
// somewhere.
package guide

import (
	"bytes"
	"encoding/json"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

// A section of the guide adds one thing.
type section struct {
	title  string
	blocks []block
}

// A block is a fenced one that names its language and its file, and perhaps
// tests that are there already and must hold with it.
type block struct{ language, file, holds, text string }

// fence opens such a block; what the guide only shows has no file.
var fence = regexp.MustCompile("^```(go|diff) (\\S+)(?: (Test\\S+))?$")

func readGuide(t *testing.T) []section {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "docs/extend.md"))
	if err != nil {
		t.Fatal(err)
	}
	var all []section
	var open *block
	for line := range strings.Lines(string(text)) {
		switch begin := fence.FindStringSubmatch(strings.TrimSuffix(line, "\n")); {
		case open != nil && line == "```\n":
			s := &all[len(all)-1]
			s.blocks, open = append(s.blocks, *open), nil
		case open != nil:
			open.text += line
		case begin != nil:
			open = &block{language: begin[1], file: begin[2], holds: begin[3]}
		case strings.HasPrefix(line, "## "):
			all = append(all, section{title: strings.TrimSpace(line[3:])})
		}
	}
	return all
}

// apply changes text as a diff without line numbers says. The lines that it
// keeps or takes away must be there, once and together.
func apply(t *testing.T, file, text, diff string) string {
	t.Helper()
	var before, after strings.Builder
	for line := range strings.Lines(diff) {
		sign, rest := line[0], line[1:]
		if sign != '+' {
			before.WriteString(rest)
		}
		if sign != '-' {
			after.WriteString(rest)
		}
	}
	// A list that is one line goes on after what the diff shows of it.
	old, now := strings.TrimSuffix(before.String(), "\n"), strings.TrimSuffix(after.String(), "\n")
	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("%s has %d times what the guide says is there, want once:\n%s", file, n, old)
	}
	return strings.Replace(text, old, now, 1)
}

func TestEveryExampleOfTheGuideWorksAsItStandsThere(t *testing.T) {
	sections := readGuide(t)
	if len(sections) < 6 {
		t.Fatalf("the guide has %d sections", len(sections))
	}
	for _, s := range sections {
		t.Run(s.title, func(t *testing.T) {
			t.Parallel()
			var added, listed []string
			tests := map[string][]string{} // that must pass, by folder
			dir, overlay := t.TempDir(), map[string]string{}
			for _, b := range s.blocks {
				path, err := filepath.Abs(filepath.Join(root, b.file))
				if err != nil {
					t.Fatal(err)
				}
				text, folder := b.text, filepath.Dir(path)
				switch {
				case b.language == "diff":
					have, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					text = apply(t, b.file, string(have), b.text)
					listed = append(listed, b.file)
					if b.holds != "" {
						tests[folder] = append(tests[folder], strings.Split(b.holds, ",")...)
					}
				case strings.HasSuffix(b.file, "_test.go"):
					for _, m := range regexp.MustCompile(`func (Test\w+)`).FindAllStringSubmatch(text, -1) {
						tests[folder] = append(tests[folder], m[1])
					}
				default:
					added = append(added, b.file)
				}
				overlay[path] = filepath.Join(dir, strings.ReplaceAll(b.file, "/", "_"))
				if formatted, err := format.Source([]byte(text)); err != nil || string(formatted) != text {
					t.Errorf("%s is not as gofmt writes it: %v\n%s", b.file, err, cmp.Diff(text, string(formatted)))
				}
				if err := os.WriteFile(overlay[path], []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if len(added) != 1 || len(listed) == 0 || len(tests) == 0 {
				t.Fatalf("files %v, lists %v and tests %v, want one file, its list and its test", added, listed, tests)
			}
			t.Logf("one file, %s; a line or two in %s", added[0], strings.Join(listed, ", "))
			runs(t, overlay, dir, tests)
		})
	}
}

// runs builds what the overlay changes, and runs the tests.
func runs(t *testing.T, overlay map[string]string, dir string, tests map[string][]string) {
	t.Helper()
	data, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	packages := map[string]bool{}
	for path := range overlay {
		packages[filepath.Dir(path)] = true
	}
	for at := range packages {
		args := []string{"vet", "-overlay", file, "."}
		if names := tests[at]; len(names) > 0 {
			args = []string{"test", "-count=1", "-v", "-overlay", file, "-run", pattern(names), "."}
		}
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = at
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go %s in %s: %v\n%s", strings.Join(args, " "), at, err, out)
		}
		for _, name := range tests[at] {
			if !bytes.Contains(out, []byte("--- PASS: "+name)) {
				t.Errorf("%s did not run:\n%s", name, out)
			}
		}
	}
}

// pattern selects tests, and of those that are named with a subtest only that.
func pattern(names []string) string {
	var tops, subs []string
	for _, name := range names {
		top, sub, _ := strings.Cut(name, "/")
		tops = append(tops, top)
		if sub != "" {
			subs = append(subs, sub)
		}
	}
	text := "^(" + strings.Join(tops, "|") + ")$"
	if len(subs) > 0 {
		text += "/^(" + strings.Join(subs, "|") + ")$"
	}
	return text
}
