package figure

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestQuantilesAreMeasuredValues(t *testing.T) {
	hundred := make(Times, 100)
	for i := range hundred {
		hundred[(i*37)%100] = time.Duration(i + 1) // in no order
	}
	for _, test := range []struct {
		name  string
		times Times
		q     float64
		want  time.Duration
	}{
		{"of none", nil, 0.99, 0},
		{"of one", Times{7}, 0.5, 7},
		{"median of an even number is the lower one", Times{4, 1, 3, 2}, 0.5, 2},
		{"median", hundred, 0.5, 50},
		{"99 %", hundred, 0.99, 99},
		{"worst", hundred, 1, 100},
		{"best", hundred, 0, 1},
		{"99 % of few is the worst", Times{3, 1, 2}, 0.99, 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.times.Quantile(test.q); got != test.want {
				t.Errorf("got %d, want %d", got, test.want)
			}
		})
	}
	if hundred[0] != 1 || hundred[1] == 2 {
		t.Error("the measured values were sorted in place")
	}
}

func TestApartIsTheLargestDistanceFromTheMean(t *testing.T) {
	for _, test := range []struct {
		name    string
		numbers []float64
		want    float64
	}{
		{"none", nil, 0},
		{"one", []float64{5}, 0},
		{"all zero", []float64{0, 0}, 0},
		{"two", []float64{9, 11}, 0.1},
		{"three", []float64{5, 10, 15}, 0.5},
	} {
		if got := Apart(test.numbers...); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestNumbersHaveThreeDigitsThatCount(t *testing.T) {
	for _, test := range []struct{ got, want string }{
		{Number(0), "0"}, {Number(0.0449), "0.04"}, {Number(1.5), "1.50"}, {Number(12.34), "12.3"}, {Number(123.4), "123"},
		{Number(1234567), "1,234,567"}, {Number(-1234), "-1,234"}, {Number(999), "999"},
		{Duration(1500 * time.Millisecond), "1.50 s"}, {Duration(43 * time.Millisecond), "43.0 ms"}, {Duration(750 * time.Nanosecond), "0.75 µs"},
		{MiB(64 << 20), "64.0 MiB"}, {Percent(0.123), "12.3 %"},
	} {
		if test.got != test.want {
			t.Errorf("got %q, want %q", test.got, test.want)
		}
	}
}

func TestATableHasALinePerRow(t *testing.T) {
	got := Table([]Row{
		{What: "P7 memory", Size: "1k pods", Figure: "40 MiB", Reference: "a | b", Asked: "≤ 64 MiB", Reached: Within(40, 64)},
		{What: "P9 start", Figure: "2 s", Reached: Within(2, 1)},
	})
	want := strings.Join([]string{
		"| | size | measured | reference in the same run | asked for | reached |",
		"|---|---|---|---|---|---|",
		`| P7 memory | 1k pods | 40 MiB | a \| b | ≤ 64 MiB | yes |`,
		"| P9 start | – | 2 s | – | – | **no** |",
		"",
	}, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestOnlyTheSectionIsReplaced(t *testing.T) {
	const begin, end = "<!-- watcher: generated -->\n", "<!-- watcher: end -->\n"
	got, err := Replace("prose\n"+begin+"old\n"+end+"more prose\n", "watcher", "new\n")
	if err != nil {
		t.Fatal(err)
	}
	if want := "prose\n" + begin + "new\n" + end + "more prose\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, test := range []struct{ name, document, want string }{
		{"no marks", "prose\n", `the line "<!-- watcher: generated -->" is there 0 times, want once`},
		{"no end", begin, `the line "<!-- watcher: end -->" is there 0 times, want once`},
		{"twice", begin + end + begin, `the line "<!-- watcher: generated -->" is there 2 times, want once`},
		{"turned around", end + begin, `the line "<!-- watcher: end -->" stands before the line "<!-- watcher: generated -->"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := Replace(test.document, "watcher", "new\n"); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
