// Package guide holds docs/extend.md to its word: every example in it is put
// into the tree as it stands there, compiled, and its test is run.
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
)

const root = "../.."

// A section of the guide adds one thing.
type section struct {
	title  string
	blocks []block
}

// A block is a fenced one that names its language and its file.
type block struct{ language, file, text string }

// fence opens such a block; what the guide only shows has no file.
var fence = regexp.MustCompile("^```(go|diff) (\\S+)$")

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
			open = &block{language: begin[1], file: begin[2]}
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
	if len(sections) < 4 {
		t.Fatalf("the guide has %d sections", len(sections))
	}
	for _, s := range sections {
		t.Run(s.title, func(t *testing.T) {
			t.Parallel()
			var added, listed int
			var test block
			dir, overlay := t.TempDir(), map[string]string{}
			for _, b := range s.blocks {
				path, err := filepath.Abs(filepath.Join(root, b.file))
				if err != nil {
					t.Fatal(err)
				}
				text := b.text
				switch {
				case b.language == "diff":
					listed++
					have, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					text = apply(t, b.file, string(have), b.text)
				case strings.HasSuffix(b.file, "_test.go"):
					test = b
				default:
					added++
				}
				overlay[path] = filepath.Join(dir, strings.ReplaceAll(b.file, "/", "_"))
				if formatted, err := format.Source([]byte(text)); err != nil || string(formatted) != text {
					t.Errorf("%s is not as gofmt writes it: %v", b.file, err)
				}
				if err := os.WriteFile(overlay[path], []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if added != 1 || listed == 0 || test.file == "" {
				t.Fatalf("%d files, %d lists and the test %q, want one file, its list and its test", added, listed, test.file)
			}
			runs(t, overlay, dir, test)
		})
	}
}

// runs builds what the overlay changes, and runs the test that it adds.
func runs(t *testing.T, overlay map[string]string, dir string, test block) {
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
	name := regexp.MustCompile(`func (Test\w+)`).FindStringSubmatch(test.text)
	if name == nil {
		t.Fatalf("%s has no test", test.file)
	}
	tested, err := filepath.Abs(filepath.Join(root, filepath.Dir(test.file)))
	if err != nil {
		t.Fatal(err)
	}
	for at := range packages {
		args := []string{"vet", "-overlay", file, "."}
		if at == tested {
			args = []string{"test", "-count=1", "-v", "-overlay", file, "-run", "^" + name[1] + "$", "."}
		}
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = at
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("go %s in %s: %v\n%s", strings.Join(args, " "), at, err, out)
		}
		if at == tested && !bytes.Contains(out, []byte("--- PASS: "+name[1])) {
			t.Fatalf("%s did not run:\n%s", name[1], out)
		}
	}
}
