package episode

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
)

// flaps makes a failure of loop begin and end again and again, every step, and
// says what each beginning says about that.
func flaps(w *watcher, times int, step time.Duration) (marks []string) {
	for i := range times {
		at := after(time.Duration(i) * step)
		w.world = []Sighting{sighting(loop, Failing, 0)}
		w.look(at, pod)
		marks = append(marks, w.sent[len(w.sent)-1].Metadata[heal.MetadataFlapping])
		w.world = []Sighting{sighting(loop, Well, 0)}
		w.look(at.Add(time.Second), pod)
		w.runUntil(at.Add(step / 2))
	}
	return marks
}

func TestFailureThatBeginsAgainAndAgainSaysSo(t *testing.T) {
	tests := []struct {
		name string
		step time.Duration
		want []string
	}{
		{"within the window", 5 * time.Minute, []string{"", "", "", "3", "4", "5"}},
		{"what has left the window is forgotten", 19 * time.Minute, []string{"", "", "", "3", "3", "3"}},
		{"seldom", 25 * time.Minute, []string{"", "", "", "", "", ""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := &watcher{book: newBook(), store: store{}}
			if diff := cmp.Diff(tt.want, flaps(w, len(tt.want), tt.step)); diff != "" {
				t.Errorf("how often it had ended before (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEveryOccurrenceOfAFlappingFailureSaysSoUntilTheWindowIsOver(t *testing.T) {
	w := &watcher{book: newBook(), store: store{}}
	flaps(w, 3, 5*time.Minute)
	w.sent = nil
	w.world = []Sighting{sighting(loop, Failing, 0)}
	w.world[0].Failure.Metadata = map[string]string{"container": "api"}
	begun := after(15 * time.Minute)
	w.look(begun, pod)
	w.runUntil(begun.Add(2 * flapWindow))
	first, last := w.sent[0], w.sent[len(w.sent)-1]
	if diff := cmp.Diff(map[string]string{"container": "api", heal.MetadataFlapping: "3"}, first.Metadata); diff != "" {
		t.Errorf("the first occurrence (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"container": "api"}, last.Metadata); diff != "" {
		t.Errorf("the last occurrence (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"container": "api"}, w.world[0].Failure.Metadata); diff != "" {
		t.Errorf("the sighting itself was changed (-want +got):\n%s", diff)
	}
}

func TestMemoryForEndsIsBoundedAndEmptiesWithTime(t *testing.T) {
	var e ends
	for i := range maxEnds + 10 {
		e.add(Key{UID: fmt.Sprint(i % (maxEnds + 5))}, noon)
	}
	if len(e.list) != maxEnds {
		t.Errorf("%d ends remembered, want %d", len(e.list), maxEnds)
	}
	if got := e.count(Key{UID: "9"}, noon); got != 0 {
		t.Errorf("the oldest end counts %d, want it forgotten", got)
	}
	if got := e.count(Key{UID: "4"}, noon); got != 1 {
		t.Errorf("a key that was dropped and has ended again counts %d, want 1", got)
	}
	if got := e.count(Key{UID: "20"}, after(flapWindow)); got != 0 || len(e.list) != 0 || len(e.counts) != 0 {
		t.Errorf("after the window %d, %d ends and %d counts; want none", got, len(e.list), len(e.counts))
	}
}

func TestWhatIsFailingCanBeListed(t *testing.T) {
	b := newBook()
	others := []Key{{UID: "well", Detector: "d"}, {UID: "held", Detector: "d"}, {UID: "excused", Detector: "d"}, {UID: "gone", Detector: "d"}}
	for _, key := range append(others, loop) {
		hold := time.Duration(0)
		if key.UID == "held" {
			hold = time.Hour
		}
		b.See(noon, heal.Target{UID: key.UID}, []Sighting{sighting(key, Failing, hold)})
		if job := b.Work(noon, key); job.Step == Open {
			b.Stored(noon, job.Record, 1)
		}
	}
	b.See(after(time.Second), heal.Target{UID: "well"}, []Sighting{sighting(others[0], Well, 0)})
	b.See(after(time.Second), heal.Target{UID: "excused"}, []Sighting{sighting(others[2], Excused, 0)})
	b.Gone(after(time.Second), "gone")
	var got []string
	for f := range b.Failing() {
		got = append(got, f.Target.UID)
	}
	if diff := cmp.Diff([]string{loop.UID}, got); diff != "" {
		t.Errorf("failing (-want +got):\n%s", diff)
	}
}
