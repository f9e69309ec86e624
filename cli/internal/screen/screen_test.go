package screen

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestWrap(t *testing.T) {
	tests := []struct {
		name                string
		text                string
		width, indent, used int
		want                string
	}{
		{"what fits stays on one line", "seen decided", 40, 4, 0, "seen decided"},
		{"what does not goes below the text", "twelve chars and more", 24, 4, 0, "twelve chars and\n    more"},
		{"columns in use shorten the first line only", "twelve chars and more", 24, 4, 10, "twelve\n    chars and more"},
		{"a word longer than the rest of the line moves down whole", "abcdefghijklmnop", 24, 4, 10, "\n    abcdefghijklmnop"},
		{"a word longer than any line is broken", strings.Repeat("x", 45), 24, 4, 0, strings.Repeat("x", 20) + "\n    " + strings.Repeat("x", 20) + "\n    xxxxx"},
		{"no width is no limit", strings.Repeat("word ", 50) + "end", 0, 4, 0, strings.Repeat("word ", 50) + "end"},
		{"letters count, not bytes", "ääääää ööööööööööööö", 24, 4, 0, "ääääää ööööööööööööö"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Wrap(tt.text, tt.width, tt.indent, tt.used); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		text string
		n    int
		want string
	}{{"short", 5, "short"}, {"longer", 5, "long…"}, {"unlimited", 0, "unlimited"}, {"ööööö", 3, "öö…"}} {
		if got := Cut(tt.text, tt.n); got != tt.want {
			t.Errorf("Cut(%q, %d) is %q, want %q", tt.text, tt.n, got, tt.want)
		}
	}
}

func TestTheFooterStaysBelowWhatIsPrinted(t *testing.T) {
	var out strings.Builder
	s := To(&out)
	s.color = true
	s.Footer("working")
	s.Footer("working")
	s.Println("a line")
	s.Footer("")
	s.Println("another")
	const clear = "\r\x1b[2K"
	if want := "working" + clear + "a line\nworking" + clear + "another\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

func TestWhatIsNoTerminalGetsPlainText(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := For(f, false)
	s.Footer("working")
	s.Println(s.Paint().As("a line", Bold, Red))
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != "a line\n" || s.Width() != 0 {
		t.Errorf("got %q at width %d, want the line alone at no width", got, s.Width())
	}
}
