package contract

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestWhatIsDetectedHasARemedyOrAReasonWhyNot compares two generated pages: a
// detector may not announce a failure that the analyzer has never heard of.
func TestWhatIsDetectedHasARemedyOrAReasonWhyNot(t *testing.T) {
	known := pairs(t, "../../docs/remedies.md", 1, 2)
	announced := pairs(t, "../../docs/failures.md", 3, 4)
	if len(announced) < 20 {
		t.Fatalf("docs/failures.md has %d reasons; want all of the watcher's", len(announced))
	}
	for _, pair := range announced {
		if !slices.Contains(known, pair) {
			t.Errorf("%s can be announced, but what may help against it is not said in services/analyzer/internal/policy/remedy.go", pair)
		}
	}
}

// pairs are the types and reasons that a page's table lists in two columns.
func pairs(t *testing.T, page string, typeAt, reasonsAt int) []string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(line, "|")
		if len(cells) <= max(typeAt, reasonsAt) || !strings.Contains(cells[typeAt], "`") {
			continue
		}
		of := strings.Trim(cells[typeAt], " `")
		for reason := range strings.SplitSeq(cells[reasonsAt], ",") {
			if reason = strings.Trim(reason, " `"); reason != "" {
				all = append(all, of+"/"+reason)
			}
		}
	}
	return all
}
