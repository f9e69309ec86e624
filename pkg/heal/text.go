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
// invisible characters and invalid UTF-8 are dropped or replaced, line breaks
// become spaces, and what is longer than limit bytes is cut at a rune and
// ends in "…". Anybody who may create a pod chooses such text.
func Clean(s string, limit int) string {
	long := len(s) > 4*limit
	if long {
		s = clip(s, 4*limit) // do not walk a megabyte
	}
	s = strings.Map(visible, strings.ToValidUTF8(s, "\uFFFD"))
	if len(s) <= limit && !long {
		return s
	}
	const ellipsis = "…"
	if limit < len(ellipsis) {
		return clip(s, limit)
	}
	return clip(s, limit-len(ellipsis)) + ellipsis
}

// visible maps line breaks to a space and drops what cannot be seen.
func visible(r rune) rune {
	switch r {
	case '\t', '\n', '\v', '\f', '\r', '\u0085', '\u2028', '\u2029':
		return ' '
	}
	// Cf holds the bidi controls, the zero-width characters and the soft
	// hyphen; the other two are invisible too.
	if unicode.IsControl(r) || unicode.In(r, unicode.Cf, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
		return -1
	}
	return r
}

// clip returns the longest prefix of s that has at most limit bytes and does
// not end inside a rune.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	end := max(0, limit)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
