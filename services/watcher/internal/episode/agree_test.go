package episode

import (
	"cmp"
	"maps"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/selfheal/selfheal/pkg/heal"
)

// store is the shared bucket, as far as episodes use it.
type store map[string]stored

type stored struct {
	rec Record
	rev uint64
}

func (s store) copy() store { return maps.Clone(s) }

// watcher does with a Book what package watch does, in virtual time.
type watcher struct {
	book  *Book
	store store
	world []Sighting // what a look shows now, of one object
	sent  []heal.Failure
}

func (w *watcher) look(now time.Time, t heal.Target) {
	w.settle(now, w.book.See(now, t, w.world))
}

func (w *watcher) restore(now time.Time) {
	for _, s := range w.store {
		if s.rec.Resting() {
			continue
		}
		w.book.Restore(now, s.rec, s.rev, 5*time.Second)
	}
}

// runUntil lets the timer fire whenever something is due, up to then.
func (w *watcher) runUntil(then time.Time) {
	for {
		next, any := w.book.Next()
		if !any || next.After(then) {
			return
		}
		for _, t := range w.book.Due(next) {
			w.look(next, t)
		}
	}
}

func (w *watcher) settle(now time.Time, keys []Key) {
	for _, key := range keys {
		for w.step(now, w.book.Work(now, key)) {
		}
	}
}

func (w *watcher) step(now time.Time, job Work) bool {
	id := job.Key.ID()
	at, exists := w.store[id]
	rests := exists && at.rec.Resting()
	exists = exists && !rests
	switch job.Step {
	case Nothing:
		return false
	case Open:
		if !exists {
			rec := job.Record
			if rests {
				rec = rec.After(at.rec)
			}
			at = stored{rec, at.rev + 1}
			w.store[id] = at
		}
		w.book.Stored(now, at.rec, at.rev)
	case Announce:
		if !exists {
			w.book.Ended(now, job.Key)
			return true
		}
		if job.Record.Announced > 0 && at.rec.Announced >= job.Failure.Occurrence || !at.rec.ResolvedAt.IsZero() {
			w.book.Stored(now, at.rec, at.rev)
			return true
		}
		w.sent = append(w.sent, job.Failure)
		at.rec.Announced, at.rec.Failure, at.rev = job.Failure.Occurrence, job.Failure, at.rev+1
		w.store[id] = at
		w.book.Stored(now, at.rec, at.rev)
	case Resolve:
		if exists {
			if at.rec.ResolvedAt.IsZero() {
				at.rec.ResolvedAt = now
			}
			w.sent = append(w.sent, at.rec.End())
			if delete(w.store, id); !job.Gone {
				w.store[id] = stored{at.rec.Rest(), at.rev + 1}
			}
		}
		w.book.Ended(now, job.Key)
	}
	return true
}

// A change is what one part of one object is seen to be from a moment on.
type change struct {
	at    time.Duration
	key   Key
	state State
	gone  bool // the whole object
}

func changes() *rapid.Generator[[]change] {
	keys := []Key{{"u1", "crash_loop", "api"}, {"u1", "crash_loop", "web"}, {"u2", "crash_loop", "api"}}
	return rapid.Custom(func(t *rapid.T) []change {
		var list []change
		at := time.Duration(0)
		for range rapid.IntRange(1, 25).Draw(t, "changes") {
			at += time.Duration(rapid.IntRange(1, 120_000).Draw(t, "after")) * time.Millisecond
			list = append(list, change{
				at:    at,
				key:   rapid.SampledFrom(keys).Draw(t, "key"),
				state: rapid.SampledFrom([]State{Failing, Failing, Unclear, Excused, Well}).Draw(t, "state"),
				gone:  rapid.IntRange(0, 9).Draw(t, "gone") == 0,
			})
		}
		return list
	})
}

// replay shows changes to one watcher, with further looks at polls, and
// returns everything that it publishes, by id.
func replay(w *watcher, list []change, polls []time.Duration) {
	now := map[Key]State{}
	show := func(at time.Time, uid string) {
		w.world = nil
		for _, key := range slices.SortedFunc(maps.Keys(now), func(a, b Key) int { return cmp.Compare(a.Part, b.Part) }) {
			if key.UID == uid {
				w.world = append(w.world, sighting(key, now[key], hold))
			}
		}
		w.look(at, heal.Target{UID: uid})
	}
	run := func(until time.Time) { // as runUntil, but each object shows its own state
		for {
			next, any := w.book.Next()
			if !any || next.After(until) {
				return
			}
			for _, t := range w.book.Due(next) {
				show(next, t.UID)
			}
		}
	}
	for _, c := range list {
		at := after(c.at)
		for len(polls) > 0 && polls[0] < c.at {
			run(after(polls[0]))
			show(after(polls[0]), "u1")
			show(after(polls[0]), "u2")
			polls = polls[1:]
		}
		run(at)
		if c.gone {
			maps.DeleteFunc(now, func(k Key, _ State) bool { return k.UID == c.key.UID })
			w.settle(at, w.book.Gone(at, c.key.UID))
			continue
		}
		now[c.key] = c.state
		show(at, c.key.UID)
	}
	end := after(list[len(list)-1].at + time.Hour)
	run(end)
	for _, uid := range []string{"u2", "u1"} {
		w.settle(end, w.book.Gone(end, uid))
	}
}

func TestWatchersThatSeeTheSameSayTheSameHoweverOftenTheyLook(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := changes().Draw(t, "list")
		poll := rapid.SliceOf(rapid.Custom(func(t *rapid.T) time.Duration {
			return time.Duration(rapid.IntRange(0, 3_000_000).Draw(t, "poll")) * time.Millisecond
		}))
		said := func(label string) []string {
			polls := poll.Draw(t, label)
			slices.Sort(polls)
			w := &watcher{book: newBook(), store: store{}}
			replay(w, list, polls)
			var ids []string
			for _, f := range w.sent {
				ids = append(ids, f.EventID())
			}
			slices.Sort(ids)
			return ids
		}
		a, b := said("a"), said("b")
		if diff := gocmp.Diff(a, b); diff != "" {
			t.Fatalf("two watchers differ:\n%s", diff)
		}
		if len(slices.Compact(slices.Clone(a))) != len(a) {
			t.Fatalf("a message was published twice: %v", a)
		}
	})
}

func TestEveryEpisodeHasOneBeginningRisingOccurrencesAndOneEnd(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := changes().Draw(t, "list")
		shared := store{}
		w := &watcher{book: newBook(), store: shared}
		replay(w, list, nil)
		for _, s := range shared {
			if !s.rec.Resting() {
				t.Fatalf("the record of an open episode is left: %+v", s.rec)
			}
		}
		last := map[string]int{}
		ended := map[string]bool{}
		for _, f := range w.sent {
			switch {
			case ended[f.EpisodeID]:
				t.Fatalf("episode %s goes on after its end", f.EpisodeID)
			case f.Resolved():
				ended[f.EpisodeID] = true
			case f.Occurrence <= last[f.EpisodeID]:
				t.Fatalf("occurrence %d of %s after occurrence %d", f.Occurrence, f.EpisodeID, last[f.EpisodeID])
			case f.Timestamp.Sub(f.FirstSeen) < hold:
				t.Fatalf("announced %s after it was first seen, before the hold had passed", f.Timestamp.Sub(f.FirstSeen))
			default:
				last[f.EpisodeID] = f.Occurrence
			}
		}
		if len(last) != len(ended) {
			t.Fatalf("%d episodes began, %d ended", len(last), len(ended))
		}
	})
}
