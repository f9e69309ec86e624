package incident

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"time"
)

// maxHistory is how many times a History holds. No threshold of a policy is
// above a quarter of it.
const maxHistory = 4096

// A History counts the failures of one type and fingerprint: it holds when
// each was observed, to the millisecond. It keeps twice the window, so that
// the count is exact also for a message that is late by up to a window.
type History struct {
	times   []int64 // milliseconds since 1970, ascending
	dropped int64   // the newest that went because there were too many; 0 if none did
}

// Add returns the history with one more failure.
func (h History) Add(at time.Time, window time.Duration) History {
	ms := at.UnixMilli()
	newest := ms
	if n := len(h.times); n > 0 {
		newest = max(newest, h.times[n-1])
	}
	// Copied, so that the history before stays as it was.
	i := sort.Search(len(h.times), func(i int) bool { return h.times[i] > ms })
	times := make([]int64, 0, len(h.times)+1)
	times = append(append(append(times, h.times[:i]...), ms), h.times[i:]...)

	expired := sort.Search(len(times), func(i int) bool { return times[i] > newest-2*window.Milliseconds() })
	times = times[expired:]
	if over := len(times) - maxHistory; over > 0 {
		h.dropped = times[over-1]
		times = times[over:]
	}
	h.times = times
	return h
}

// newest is the history of the last n failures.
func (h History) newest(n int) History {
	if over := len(h.times) - n; over > 0 {
		h.dropped = max(h.dropped, h.times[over-1])
		h.times = h.times[over:]
	}
	return h
}

// Within counts the failures that are less than a window away from at. If
// more is true there are at least so many.
func (h History) Within(at time.Time, window time.Duration) (n int, more bool) {
	ms, w := at.UnixMilli(), window.Milliseconds()
	first := sort.Search(len(h.times), func(i int) bool { return h.times[i] > ms-w })
	end := sort.Search(len(h.times), func(i int) bool { return h.times[i] >= ms+w })
	return end - first, h.dropped > ms-w
}

// MarshalJSON writes the first time and then the distances, which are short.
func (h History) MarshalJSON() ([]byte, error) {
	out := make([]byte, 0, 32+5*len(h.times))
	out = append(out, `{"times":[`...)
	last := int64(0)
	for i, ms := range h.times {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendInt(out, ms-last, 10)
		last = ms
	}
	out = append(out, ']')
	if h.dropped != 0 {
		out = append(out, `,"dropped":`...)
		out = strconv.AppendInt(out, h.dropped, 10)
	}
	return append(out, '}'), nil
}

// UnmarshalJSON is the inverse of MarshalJSON.
func (h *History) UnmarshalJSON(data []byte) error {
	var written struct {
		Times   []int64 `json:"times"`
		Dropped int64   `json:"dropped"`
	}
	if err := json.Unmarshal(data, &written); err != nil {
		return fmt.Errorf("history: %w", err)
	}
	for i := 1; i < len(written.Times); i++ {
		written.Times[i] += written.Times[i-1]
	}
	if !slices.IsSorted(written.Times) {
		return fmt.Errorf("history: times: not ascending")
	}
	*h = History{times: written.Times, dropped: written.Dropped}
	return nil
}
