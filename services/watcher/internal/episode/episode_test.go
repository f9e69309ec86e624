package episode

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func after(d time.Duration) time.Time { return noon.Add(d) }

const (
	hold  = time.Minute
	calm  = 30 * time.Second
	first = 30 * time.Second
	limit = 5 * time.Minute
)

var (
	pod  = heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "api-1", UID: "u1"}
	loop = Key{UID: "u1", Detector: "crash_loop", Part: "api"}
)

func newBook() *Book {
	return NewBook(Config{Cluster: "test", Schedule: Schedule{first, limit}, Recheck: 30 * time.Second, Max: 1000})
}

func sighting(key Key, state State, hold time.Duration) Sighting {
	s := Sighting{Key: key, State: state, Hold: hold, Clear: calm}
	if state == Failing {
		s.Failure = heal.Failure{Target: heal.Target{UID: key.UID}, Detector: key.Detector, Reason: "CrashLoopBackOff"}
	}
	return s
}

func TestScheduleDoublesUpToItsLimit(t *testing.T) {
	tests := []struct {
		age        time.Duration
		occurrence int
		next       time.Duration
	}{
		{-time.Minute, 1, 30 * time.Second}, // another watcher's clock is ahead
		{0, 1, 30 * time.Second},
		{30*time.Second - 1, 1, 30 * time.Second},
		{30 * time.Second, 2, 90 * time.Second},
		{90 * time.Second, 3, 210 * time.Second},
		{210 * time.Second, 4, 450 * time.Second},
		{450 * time.Second, 5, 750 * time.Second},
		{749 * time.Second, 5, 750 * time.Second},
		{750 * time.Second, 6, 1050 * time.Second},
		{1049 * time.Second, 6, 1050 * time.Second},
		{1050 * time.Second, 7, 1350 * time.Second},
		{450*time.Second + 1000*limit, 1005, 750*time.Second + 1000*limit},
	}
	for _, tt := range tests {
		n, next := Schedule{first, limit}.At(tt.age)
		if n != tt.occurrence || next != tt.next {
			t.Errorf("at %s: occurrence %d, next at %s; want %d, %s", tt.age, n, next, tt.occurrence, tt.next)
		}
	}
}

func TestScheduleWithALimitBelowItsFirstStepRepeatsThatStep(t *testing.T) {
	if n, next := (Schedule{time.Minute, time.Second}).At(3 * time.Minute); n != 4 || next != 4*time.Minute {
		t.Errorf("occurrence %d, next at %s; want 4, 4m", n, next)
	}
}

// A script is what one watcher sees, and when.
type act struct {
	at    time.Duration
	state State
	gone  bool
}

// published is what it says.
type published struct {
	At         time.Duration
	Occurrence int
	Resolved   bool
}

func TestEpisode(t *testing.T) {
	s := time.Second
	tests := []struct {
		name  string
		hold  time.Duration
		acts  []act
		until time.Duration
		want  []published
	}{
		{
			name: "what does not last is not announced", hold: hold,
			acts:  []act{{at: 0, state: Failing}, {at: 50 * s, state: Well}},
			until: 600 * s,
		},
		{
			name: "what lasts is announced when the hold has passed", hold: hold,
			acts:  []act{{at: 0, state: Failing}},
			until: 61 * s,
			want:  []published{{At: 60 * s, Occurrence: 1}},
		},
		{
			name: "without a hold it is announced at once, then again and again", hold: 0,
			acts:  []act{{at: 0, state: Failing}},
			until: 220 * s,
			want:  []published{{0, 1, false}, {30 * s, 2, false}, {90 * s, 3, false}, {210 * s, 4, false}},
		},
		{
			name: "a moment of running does not start the hold again", hold: hold,
			acts:  []act{{at: 0, state: Failing}, {at: 10 * s, state: Well}, {at: 20 * s, state: Unclear}, {at: 25 * s, state: Failing}},
			until: 61 * s,
			want:  []published{{60 * s, 1, false}},
		},
		{
			name: "nothing is opened while it runs, and at once when it fails again", hold: hold,
			acts:  []act{{at: 0, state: Failing}, {at: 50 * s, state: Well}, {at: 70 * s, state: Failing}},
			until: 80 * s,
			want:  []published{{70 * s, 1, false}},
		},
		{
			name: "a moment of running does not resolve it, a lasting one does", hold: 0,
			acts: []act{{at: 0, state: Failing}, {at: 5 * s, state: Well}, {at: 25 * s, state: Unclear},
				{at: 40 * s, state: Failing}, {at: 50 * s, state: Well}},
			until: 600 * s,
			want:  []published{{0, 1, false}, {40 * s, 2, false}, {80 * s, 2, true}},
		},
		{
			name: "two moments of running do not add up", hold: 0,
			acts:  []act{{at: 0, state: Failing}, {at: 5 * s, state: Well}, {at: 20 * s, state: Unclear}, {at: 25 * s, state: Well}},
			until: 600 * s,
			want:  []published{{0, 1, false}, {55 * s, 1, true}},
		},
		{
			name: "an object that is gone resolves at once", hold: 0,
			acts:  []act{{at: 0, state: Failing}, {at: 5 * s, gone: true}},
			until: 600 * s,
			want:  []published{{0, 1, false}, {5 * s, 1, true}},
		},
		{
			name: "an object that is gone before the hold has passed was never announced", hold: hold,
			acts:  []act{{at: 0, state: Failing}, {at: 5 * s, gone: true}},
			until: 600 * s,
		},
		{
			name: "what is excused is not announced, and its hold begins when it counts", hold: hold,
			acts:  []act{{at: 0, state: Excused}, {at: 300 * s, state: Failing}},
			until: 365 * s,
			want:  []published{{360 * s, 1, false}},
		},
		{
			name: "being excused before the hold has passed starts it again", hold: hold,
			acts:  []act{{at: 0, state: Failing}, {at: 50 * s, state: Excused}, {at: 70 * s, state: Failing}},
			until: 135 * s,
			want:  []published{{130 * s, 1, false}},
		},
		{
			name: "excused while open: neither announced nor resolved", hold: 0,
			acts:  []act{{at: 0, state: Failing}, {at: 5 * s, state: Excused}, {at: 100 * s, state: Failing}},
			until: 110 * s,
			want:  []published{{0, 1, false}, {100 * s, 3, false}},
		},
		{
			name: "failing again after the end is a new episode, with a hold of its own", hold: hold,
			acts:  []act{{at: 0, state: Failing}, {at: 65 * s, state: Well}, {at: 200 * s, state: Failing}},
			until: 270 * s,
			want:  []published{{60 * s, 1, false}, {95 * s, 1, true}, {260 * s, 1, false}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := watcher{book: newBook(), store: store{}}
			for _, a := range tt.acts {
				w.runUntil(after(a.at))
				if a.gone {
					w.settle(after(a.at), w.book.Gone(after(a.at), pod.UID))
					w.world = nil
					continue
				}
				w.world = []Sighting{sighting(loop, a.state, tt.hold)}
				w.look(after(a.at), pod)
			}
			w.runUntil(after(tt.until))
			var got []published
			for _, f := range w.sent {
				got = append(got, published{f.Timestamp.Sub(noon), f.Occurrence, f.Resolved()})
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("published (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOccurrencesOfAnEpisodeShareItsIdentity(t *testing.T) {
	w := watcher{book: newBook(), store: store{}, world: []Sighting{sighting(loop, Failing, hold)}}
	w.look(noon, pod)
	w.runUntil(after(2 * time.Minute))
	w.settle(after(2*time.Minute), w.book.Gone(after(2*time.Minute), pod.UID))

	want := heal.MakeEpisodeID("test", "u1", "crash_loop", "api", noon)
	if len(w.sent) != 3 {
		t.Fatalf("published %d messages, want two occurrences and the end", len(w.sent))
	}
	for _, f := range w.sent {
		if f.EpisodeID != want || !f.FirstSeen.Equal(noon) {
			t.Errorf("occurrence %d: episode %s first seen %s; want %s, %s: before the hold", f.Occurrence, f.EpisodeID, f.FirstSeen, want, noon)
		}
	}
	if len(w.store) != 0 {
		t.Errorf("the store still holds %d records after the end", len(w.store))
	}
}

func TestRestartGoesOnWithTheEpisode(t *testing.T) {
	failing := []Sighting{sighting(loop, Failing, hold)}
	before := watcher{book: newBook(), store: store{}, world: failing}
	before.look(noon, pod)
	before.runUntil(after(95 * time.Second)) // occurrences 1 and 2

	t.Run("still failing: announced further, with the occurrence that is due by now", func(t *testing.T) {
		w := watcher{book: newBook(), store: before.store.copy(), world: failing}
		w.restore(after(10 * time.Minute))
		w.runUntil(after(11 * time.Minute))
		if len(w.sent) != 1 {
			t.Fatalf("published %d messages, want 1", len(w.sent))
		}
		if f := w.sent[0]; f.EpisodeID != before.sent[0].EpisodeID || f.Occurrence != 5 {
			t.Errorf("occurrence %d of %s, want 5 of %s", f.Occurrence, f.EpisodeID, before.sent[0].EpisodeID)
		}
	})
	t.Run("healed meanwhile: resolved once that has lasted", func(t *testing.T) {
		w := watcher{book: newBook(), store: before.store.copy(), world: []Sighting{sighting(loop, Well, 0)}}
		w.restore(after(10 * time.Minute))
		w.runUntil(after(12 * time.Minute))
		if len(w.sent) != 1 || !w.sent[0].Resolved() || w.sent[0].EpisodeID != before.sent[0].EpisodeID {
			t.Errorf("published %+v, want the end of %s", w.sent, before.sent[0].EpisodeID)
		}
	})
	t.Run("gone meanwhile: resolved", func(t *testing.T) {
		w := watcher{book: newBook(), store: before.store.copy()}
		w.restore(after(10 * time.Minute))
		w.settle(after(10*time.Minute), w.book.Gone(after(10*time.Minute), pod.UID))
		if len(w.sent) != 1 || !w.sent[0].Resolved() {
			t.Errorf("published %+v, want the end", w.sent)
		}
	})
	t.Run("stopped between storing the end and publishing it: published", func(t *testing.T) {
		s := before.store.copy()
		r := s[loop.ID()]
		r.rec.ResolvedAt = after(100 * time.Second)
		s[loop.ID()] = r
		w := watcher{book: newBook(), store: s, world: failing}
		w.restore(after(10 * time.Minute))
		w.runUntil(after(10*time.Minute + 30*time.Second))
		if len(w.sent) != 1 || !w.sent[0].ResolvedAt.Equal(after(100*time.Second)) {
			t.Errorf("published %+v, want the end as it was stored", w.sent)
		}
		w.runUntil(after(12 * time.Minute))
		if len(w.sent) < 2 || w.sent[1].EpisodeID == w.sent[0].EpisodeID || w.sent[1].Occurrence != 1 {
			t.Errorf("published %+v, want a new episode after the end of the old one", w.sent)
		}
	})
	t.Run("stopped between opening and announcing: announced", func(t *testing.T) {
		s := before.store.copy()
		r := s[loop.ID()]
		r.rec.Announced = 0
		s[loop.ID()] = r
		w := watcher{book: newBook(), store: s, world: failing}
		w.restore(after(61 * time.Second))
		w.look(after(61*time.Second), pod)
		if len(w.sent) != 1 || w.sent[0].Occurrence != 1 {
			t.Errorf("published %+v, want occurrence 1", w.sent)
		}
	})
}

func TestEpisodeThatAnotherWatcherOpenedIsTakenOver(t *testing.T) {
	shared := store{}
	failing := []Sighting{sighting(loop, Failing, hold)}
	a := watcher{book: newBook(), store: shared, world: failing}
	b := watcher{book: newBook(), store: shared, world: failing}
	a.look(noon, pod)
	b.look(after(7*time.Millisecond), pod) // its watch is a little slower
	for at := noon; at.Before(after(5 * time.Minute)); at = at.Add(time.Second) {
		a.runUntil(at)
		b.runUntil(at.Add(300 * time.Millisecond))
	}
	distinct := map[string]bool{}
	for _, f := range append(a.sent, b.sent...) {
		distinct[f.EventID()] = true
		if f.EpisodeID != a.sent[0].EpisodeID {
			t.Errorf("a second episode %s beside %s", f.EpisodeID, a.sent[0].EpisodeID)
		}
	}
	if len(distinct) != 4 { // at 60, 90, 150 and 270 seconds
		t.Errorf("%d distinct messages, want 4", len(distinct))
	}
}

func TestEpisodeThatAnotherWatcherEndedIsNotGoneOnWith(t *testing.T) {
	shared := store{}
	a := watcher{book: newBook(), store: shared, world: []Sighting{sighting(loop, Failing, 0)}}
	b := watcher{book: newBook(), store: shared, world: a.world}
	a.look(noon, pod)
	b.look(noon, pod)
	a.world = []Sighting{sighting(loop, Well, 0)}
	a.look(after(time.Second), pod)
	a.runUntil(after(time.Minute)) // resolves
	b.sent = nil
	b.runUntil(after(2 * time.Minute)) // has not seen that, and is asked to announce again
	for _, f := range b.sent {
		if f.EpisodeID == a.sent[0].EpisodeID {
			t.Errorf("occurrence %d of the ended episode was published", f.Occurrence)
		}
	}
	if len(b.sent) == 0 {
		t.Error("what b still sees failing was not published as an episode of its own")
	}
}

func TestBookThatIsFullSaysWhenThereIsRoomAgain(t *testing.T) {
	b := NewBook(Config{Cluster: "test", Schedule: Schedule{first, limit}, Recheck: time.Minute, Max: 1})
	other := Key{UID: "u2", Detector: "crash_loop"}
	b.See(noon, pod, []Sighting{sighting(loop, Failing, hold)})
	b.See(noon, heal.Target{UID: "u2"}, []Sighting{sighting(other, Failing, hold)})
	if got := b.Tracked("u2"); got != nil {
		t.Errorf("a full book took in %v", got)
	}
	if b.Skipped() {
		t.Error("a full book says that there is room")
	}
	b.Gone(noon, pod.UID)
	if !b.Skipped() || b.Skipped() {
		t.Error("want to be told once that something was passed over")
	}
	if _, any := b.Next(); any {
		t.Error("something is due in an empty book")
	}
}
