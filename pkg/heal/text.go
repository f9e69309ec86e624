package heal

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxText is the longest foreign text, in bytes, that is copied into a
// message: termination messages alone may be 4 KiB per container.
const MaxText = 256

// Clean makes text from the cluster safe to show anywhere: control, bidi and
// zero-width characters and invalid UTF-8 are dropped or replaced, line breaks
// become spaces, and what is longer than limit bytes is cut at a rune and
// ends in "…". Anybody who may create a pod chooses such text.
func Clean(s string, limit int) string {
	if len(s) > 4*limit {
		s = s[:4*limit] // more cannot survive; do not walk a megabyte
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t':
			return ' '
		// Cf holds the bidi controls, zero-width characters and soft hyphen;
		// U+2028 and U+2029 are line breaks to some readers.
		case unicode.IsControl(r), unicode.Is(unicode.Cf, r), r == '\u2028', r == '\u2029':
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= limit {
		return s
	}
	const ellipsis = "…"
	cut := max(0, limit-len(ellipsis))
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + ellipsis
}
