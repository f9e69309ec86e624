package heal

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestCleanLeavesOnlyWhatIsSafeToShow(t *testing.T) {
	for name, test := range map[string]struct {
		in    string
		limit int
		want  string
	}{
		"plain text stays":                        {"container api: exit 1", 64, "container api: exit 1"},
		"letters of every script stay":            {"größe 容器 контейнер", 64, "größe 容器 контейнер"},
		"line breaks become spaces":               {"a\nb\r\nc\td\u2028e\u2029f\u0085g\vh\fi", 64, "a b  c d e f g h i"},
		"control characters go":                   {"a\x00b\x1b[31mc\x7fd", 64, "ab[31mcd"},
		"bidi controls go":                        {"user\u202etxt.exe\u2066x\u2069\u200f", 64, "usertxt.exex"},
		"zero width and other invisible ones go":  {"p\u200bo\u200cd\u200d\ufeff\u00ad\u2060\u034f\u115f\u3164\ufe0f\U000e0041!", 64, "pod!"},
		"invalid UTF-8 is replaced":               {"a\xff\xfeb\xc3", 64, "a\ufffdb\ufffd"},
		"what fits is whole":                      {"12345678", 8, "12345678"},
		"what is too long ends in an ellipsis":    {"123456789", 8, "12345…"},
		"the cut is at a rune":                    {"1234é678", 8, "1234é678"[:4] + "…"},
		"a long text is cut before it is walked":  {strings.Repeat("\u200b", 11) + "visible", 8, "…"},
		"nothing stays nothing":                   {"", 8, ""},
		"no room at all":                          {"abc", 0, ""},
		"no room for the ellipsis":                {"abcdef", 2, "ab"},
		"half a rune does not fit":                {"€€", 2, ""},
		"a long text of stray bytes is no danger": {strings.Repeat("\x80", 100), 8, "…"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Clean(test.in, test.limit); got != test.want {
				t.Errorf("Clean(%q, %d) = %q, want %q", test.in, test.limit, got, test.want)
			}
		})
	}
}

func FuzzCleanKeepsItsPromises(f *testing.F) {
	f.Add("container api is in CrashLoopBackOff", 16)
	f.Add("\u202e\xff\n<!channel>", 3)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 0 || limit > 1<<16 {
			return // limits are small constants of the callers
		}
		got := Clean(s, limit)
		if len(got) > limit {
			t.Errorf("%d bytes, want at most %d", len(got), limit)
		}
		if !utf8.ValidString(got) {
			t.Errorf("%q is not valid UTF-8", got)
		}
		for _, r := range got {
			if visible(r) != r {
				t.Errorf("%q still holds %U", got, r)
			}
		}
		if again := Clean(got, limit); again != got {
			t.Errorf("cleaned again it becomes %q, was %q", again, got)
		}
	})
}
