package config

import (
	"fmt"
	"strings"
)

// didYouMean is `; did you mean "mode"?` for the nearest of names, or nothing
// if none is near.
func didYouMean(got string, names []string) string {
	best, least := "", min(len(got)/3+2, len(got))
	for _, name := range names {
		if d := distance(plain(got), plain(name)); d < least {
			best, least = name, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", best)
}

// plain takes away what people spell differently: minHealthy, min-healthy.
func plain(name string) string {
	return strings.ToLower(strings.NewReplacer("_", "", "-", "", ".", "").Replace(name))
}

// distance is the Levenshtein distance of a and b in bytes.
func distance(a, b string) int {
	if len(a) > 64 { // nothing of ours is so long; do not compare a megabyte
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
