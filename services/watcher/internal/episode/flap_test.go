package episode

import (
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

func TestFlappingIsRecognisedByAWatcherThatHasOnlyJustStarted(t *testing.T) {
	w := &watcher{book: newBook(), store: store{}}
	flaps(w, 3, 5*time.Minute)
	next := &watcher{book: newBook(), store: w.store}
	next.restore(after(14 * time.Minute))
	next.world = []Sighting{sighting(loop, Failing, 0)}
	next.look(after(15*time.Minute), pod)
	if len(next.sent) != 1 || next.sent[0].Metadata[heal.MetadataFlapping] != "3" {
		t.Errorf("it published %+v, want one failure that has ended 3 times", next.sent)
	}
}

func TestOfAnObjectThatIsGoneNothingStaysInTheStore(t *testing.T) {
	w := &watcher{book: newBook(), store: store{}}
	w.world = []Sighting{sighting(loop, Failing, 0)}
	w.look(noon, pod)
	w.settle(after(time.Second), w.book.Gone(after(time.Second), pod.UID))
	if len(w.sent) != 2 || len(w.store) != 0 {
		t.Errorf("%d messages and the store holds %v; want a beginning, an end, and nothing", len(w.sent), w.store)
	}
}

func TestWhatARecordRemembersIsBoundedAndGetsStale(t *testing.T) {
	rec := Record{Key: loop}
	for i := range 2 * maxEnds {
		rec.FirstSeen, rec.ResolvedAt = noon, after(time.Duration(i)*time.Minute)
		rec = rec.Rest()
	}
	last := after(time.Duration(2*maxEnds-1) * time.Minute)
	if n := len(rec.Ends); n != maxEnds || !rec.Ends[n-1].Equal(last) {
		t.Errorf("it remembers %d ends, the last at %v; want %d, the last at %v", n, rec.Ends[n-1], maxEnds, last)
	}
	for name, tt := range map[string]struct {
		rec   Record
		now   time.Time
		stale bool
	}{
		"of late":              {rec, last.Add(flapWindow - time.Second), false},
		"an hour ago":          {rec, last.Add(flapWindow), true},
		"an episode that runs": {Record{Key: loop, FirstSeen: noon}, after(24 * time.Hour), false},
	} {
		if got := tt.rec.Stale(tt.now); got != tt.stale {
			t.Errorf("%s: stale is %v, want %v", name, got, tt.stale)
		}
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
