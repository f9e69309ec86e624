// Package figure turns what a benchmark measured into rows beside their
// references, and rows into the tables of a document.
package figure

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// A Row is one figure, with what it is measured against in the same run.
type Row struct {
	What      string // with its number in the design's list, if it has one
	Size      string // such as "10k pods"
	Figure    string
	Reference string
	Asked     string
	Reached   Verdict
}

// A Verdict is whether a figure is what was asked for.
type Verdict string

const (
	Yes     Verdict = "yes"
	No      Verdict = "**no**"
	Unasked Verdict = "–" // nothing was asked, or it cannot be said from this run
)

// Within is Yes for a figure of at most limit.
func Within(figure, limit float64) Verdict {
	if figure <= limit {
		return Yes
	}
	return No
}

// Table is the rows in Markdown, in their order.
func Table(rows []Row) string {
	var b strings.Builder
	b.WriteString("| | size | measured | reference in the same run | asked for | reached |\n|---|---|---|---|---|---|\n")
	for _, r := range rows {
		cells := []string{r.What, r.Size, r.Figure, r.Reference, r.Asked, string(r.Reached)}
		for i, c := range cells {
			if c == "" {
				c = "–"
			}
			cells[i] = strings.ReplaceAll(c, "|", `\|`)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | "))
	}
	return b.String()
}

// Replace puts text between the two marks of a section of document, which
// stay, and leaves all else as it is.
func Replace(document, section, text string) (string, error) {
	begin, end := fmt.Sprintf("<!-- %s: generated -->\n", section), fmt.Sprintf("<!-- %s: end -->\n", section)
	for _, mark := range []string{begin, end} {
		if n := strings.Count(document, mark); n != 1 {
			return "", fmt.Errorf("the line %q is there %d times, want once", strings.TrimSpace(mark), n)
		}
	}
	head, rest, _ := strings.Cut(document, begin)
	_, tail, found := strings.Cut(rest, end)
	if !found {
		return "", fmt.Errorf("the line %q stands before the line %q", strings.TrimSpace(end), strings.TrimSpace(begin))
	}
	return head + begin + text + end + tail, nil
}

// Times is a number of measured durations.
type Times []time.Duration

// Quantile is the smallest duration that the share q of all does not exceed; 0 of none.
func (t Times) Quantile(q float64) time.Duration {
	if len(t) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(t))
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}

// Median is Quantile(0.5).
func (t Times) Median() time.Duration { return t.Quantile(0.5) }

// Worst is the longest of all; 0 of none.
func (t Times) Worst() time.Duration { return t.Quantile(1) }

// Apart is how far numbers are from each other: by how much each differs from
// their mean at most, as a share of that.
func Apart(numbers ...float64) float64 {
	if len(numbers) == 0 {
		return 0
	}
	sum := 0.0
	for _, n := range numbers {
		sum += n
	}
	mean, most := sum/float64(len(numbers)), 0.0
	if mean == 0 {
		return 0
	}
	for _, n := range numbers {
		most = max(most, math.Abs(n-mean)/mean)
	}
	return most
}

// Duration writes d with three digits that count.
func Duration(d time.Duration) string {
	switch {
	case d >= time.Second:
		return Number(d.Seconds()) + " s"
	case d >= time.Millisecond:
		return Number(float64(d)/float64(time.Millisecond)) + " ms"
	}
	return Number(float64(d)/float64(time.Microsecond)) + " µs"
}

// MiB writes a number of bytes.
func MiB(bytes float64) string { return Number(bytes/(1<<20)) + " MiB" }

// Percent writes a share.
func Percent(share float64) string { return Number(100*share) + " %" }

// Number writes n with three digits that count, and no more.
func Number(n float64) string {
	switch a := math.Abs(n); {
	case a >= 1000:
		return thousands(int64(math.Round(n)))
	case a >= 100:
		return fmt.Sprintf("%.0f", n)
	case a >= 10:
		return fmt.Sprintf("%.1f", n)
	case a == 0:
		return "0"
	default:
		return fmt.Sprintf("%.2f", n)
	}
}

func thousands(n int64) string {
	s := fmt.Sprint(n)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}
