package book

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

const window = time.Hour

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// failure is the first announcement of an episode.
func failure(episode string, at time.Time) heal.Failure {
	return heal.Failure{
		Type: heal.PodFailure, Fingerprint: "f", EpisodeID: episode, Occurrence: 1, Timestamp: heal.Unix{Time: at},
		Target: heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: episode, UID: episode},
	}
}

// count adds one to the failures counted.
func count(at time.Time) func(incident.Group) (incident.Group, bool) {
	return func(g incident.Group) (incident.Group, bool) {
		s := g.States["s"]
		s.Type = heal.PodFailure
		s.History = s.History.Add(at, window)
		return incident.Group{States: map[string]incident.State{"s": s}}, true
	}
}

// of makes a change of a group of one of what happens to f.
func of(f heal.Failure, change func(incident.State) (incident.State, bool)) func(incident.Group) (incident.Group, bool) {
	return func(g incident.Group) (incident.Group, bool) {
		s, changed := change(g.State(f, noon, window))
		return g.With(f, s), changed
	}
}

func counted(t *testing.T, b *Book, key string) int {
	t.Helper()
	var n int
	err := b.Update(t.Context(), key, func(s incident.Group) (incident.Group, bool) {
		n, _ = s.States["s"].History.Within(noon, window)
		return s, false
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestNoChangeIsLostOrMadeTwice(t *testing.T) {
	srv := bustest.Start(t)
	one, two := New(srv.Bus(t, "analyzer")), New(srv.Bus(t, "analyzer"))
	const each = 100
	var working sync.WaitGroup
	for i := range each {
		for _, b := range []*Book{one, two} {
			working.Go(func() {
				// A quarter of them collide on one key.
				if err := b.Update(t.Context(), fmt.Sprint("k-", max(0, i%4-2)), count(noon)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	working.Wait()
	for _, b := range []*Book{one, two} {
		if n := counted(t, b, "k-0") + counted(t, b, "k-1"); n != 2*each {
			t.Errorf("%d counted, want %d", n, 2*each)
		}
	}
}

func TestChangesThatWaitAreWrittenTogether(t *testing.T) {
	srv := bustest.Start(t)
	b := New(srv.Bus(t, "analyzer"))
	const waiting = 50
	entered, proceed := make(chan struct{}), make(chan struct{})
	var working sync.WaitGroup
	working.Go(func() {
		var once sync.Once
		err := b.Update(t.Context(), "k", func(s incident.Group) (incident.Group, bool) {
			once.Do(func() { close(entered); <-proceed })
			return count(noon)(s)
		})
		if err != nil {
			t.Error(err)
		}
	})
	<-entered
	for range waiting {
		working.Go(func() {
			if err := b.Update(t.Context(), "k", count(noon)); err != nil {
				t.Error(err)
			}
		})
	}
	for inLine := 0; inLine < waiting; { // nothing tells that a goroutine waits
		runtime.Gosched()
		b.mu.Lock()
		inLine = len(b.cells["k"].waiting)
		b.mu.Unlock()
	}
	close(proceed)
	working.Wait()
	if n := counted(t, b, "k"); n != 1+waiting {
		t.Errorf("%d counted, want %d", n, 1+waiting)
	}
	if _, rev, err := b.store.Get(t.Context(), "k"); err != nil || rev != 2 {
		t.Errorf("%d writes (%v), want 2", rev, err)
	}
}

func TestWhatAnotherAnalyzerWroteIsSeen(t *testing.T) {
	srv := bustest.Start(t)
	one, two := New(srv.Bus(t, "analyzer")), New(srv.Bus(t, "analyzer"))
	if n := counted(t, one, "k"); n != 0 {
		t.Fatalf("%d counted in nothing", n)
	}
	if err := two.Update(t.Context(), "k", count(noon)); err != nil {
		t.Fatal(err)
	}
	if n := counted(t, one, "k"); n != 1 {
		t.Errorf("%d counted by who did not write, want 1", n)
	}
	// A change that sees nothing to do in what is at hand looks once more.
	changed := false
	err := one.Update(t.Context(), "k", func(s incident.Group) (incident.Group, bool) {
		n, _ := s.States["s"].History.Within(noon, window)
		changed = n == 1
		return s, changed
	})
	if err != nil || !changed {
		t.Errorf("changed: %v, %v", changed, err)
	}
}

func TestAChangeThatPanicsDoesNotStrandTheOthers(t *testing.T) {
	srv := bustest.Start(t)
	b := New(srv.Bus(t, "analyzer"))
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		_ = b.Update(t.Context(), "k", func(incident.Group) (incident.Group, bool) { panic("poison") })
	}()
	if err := b.Update(t.Context(), "k", count(noon)); err != nil {
		t.Error(err)
	}
}

func TestAnUpdateThatCannotBeWrittenIsAnErrorAndLeavesNothingBehind(t *testing.T) {
	srv := bustest.Start(t)
	b := New(srv.Bus(t, "analyzer"))
	if err := b.Update(t.Context(), "k", count(noon)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := b.Update(ctx, "k", count(noon))
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "update incident k") {
		t.Errorf("error %v", err)
	}
	srv.Stop()
	if err := b.Update(t.Context(), "k", count(noon)); err == nil {
		t.Error("written without a server")
	}
	srv.Restart(t)
	reconnected := false
	for deadline := time.Now().Add(30 * time.Second); !reconnected && time.Now().Before(deadline); {
		reconnected = b.Update(t.Context(), "k", count(noon)) == nil
	}
	if n := counted(t, b, "k"); n != 2 {
		t.Errorf("%d counted, want the 2 that were written", n)
	}
}

func TestToldDecisionsAreForgottenWithTheNextWrite(t *testing.T) {
	srv := bustest.Start(t)
	b := New(srv.Bus(t, "analyzer"))
	f := failure("a", noon)
	key := incident.GroupKey(f)
	record := func(s incident.State) (incident.State, bool) {
		s, _ = s.Observe(f, noon, noon, window)
		return s.Decide(heal.Decision{ID: heal.MakeDecisionID(f)}, noon, noon, time.Minute), true
	}
	if err := b.Update(t.Context(), key, of(f, record)); err != nil {
		t.Fatal(err)
	}
	b.Told(key, heal.MakeDecisionID(f))
	untold := func() int {
		s, _, err := b.store.Get(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, state := range s.States {
			n += len(state.Untold)
		}
		return n
	}
	if n := untold(); n != 1 {
		t.Errorf("%d are kept at first, want 1", n)
	}
	if err := b.Update(t.Context(), key, count(noon)); err != nil {
		t.Fatal(err)
	}
	if n := untold(); n != 0 {
		t.Errorf("%d are kept after another write, want 0", n)
	}
}

func TestActiveFailuresAreCountedFromWhatIsStored(t *testing.T) {
	srv := bustest.Start(t)
	b := New(srv.Bus(t, "analyzer"))
	now := time.Now()
	for i := range 5 {
		f := failure(fmt.Sprint("e", i), now)
		f.Fingerprint = fmt.Sprint("f", i%3)
		err := b.Update(t.Context(), incident.GroupKey(f), of(f, func(s incident.State) (incident.State, bool) {
			s, _ = s.Observe(f, now, now, window)
			return s, true
		}))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			f.ResolvedAt = now
			if err := b.Update(t.Context(), incident.GroupKey(f), of(f, func(s incident.State) (incident.State, bool) { return s.Resolve(f, now, window) })); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := New(srv.Bus(t, "analyzer")).Active(t.Context(), now)
	if err != nil {
		t.Fatal(err)
	}
	want := map[heal.FailureType]int{heal.PodFailure: 4, heal.NodeFailure: 0, heal.ServiceFailure: 0, heal.DeploymentFailure: 0, heal.ResourceExhaustion: 0}
	if diff := cmp.Diff(got, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestTheSweepDeletesWhatNobodyNeedsAndItCanComeBack(t *testing.T) {
	srv := bustest.Start(t)
	b := New(srv.Bus(t, "analyzer"))
	long := noon.Add(-24 * time.Hour)
	for _, at := range []time.Time{long, noon} {
		f := failure("a", at)
		f.Fingerprint = at.String()
		err := b.Update(t.Context(), incident.GroupKey(f), of(f, func(s incident.State) (incident.State, bool) {
			s, _ = s.Observe(f, at, at, window)
			return s, true
		}))
		if err != nil {
			t.Fatal(err)
		}
	}
	if n, err := b.Sweep(t.Context(), noon, window); n != 1 || err != nil {
		t.Fatalf("%d deleted, %v; want 1", n, err)
	}
	var left []string
	if err := b.store.All(t.Context(), func(_ string, g incident.Group, _ uint64) bool {
		for _, s := range g.States {
			left = append(left, s.Fingerprint)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(left, []string{noon.String()}) {
		t.Errorf("left: %q", left)
	}
	f := failure("b", noon)
	f.Fingerprint = long.String()
	if err := b.Update(t.Context(), incident.GroupKey(f), count(noon)); err != nil { // from what is at hand, then anew
		t.Fatal(err)
	}
	if n := counted(t, b, incident.GroupKey(f)); n != 1 {
		t.Errorf("%d counted, want 1", n)
	}
}

func TestABookLetsGoOfWhatNobodyUses(t *testing.T) {
	srv := bustest.Start(t)
	b := New(srv.Bus(t, "analyzer"))
	var next atomic.Int64
	var working sync.WaitGroup
	for range 16 {
		working.Go(func() {
			for i := next.Add(1); i <= maxCached+100; i = next.Add(1) {
				if err := b.Update(t.Context(), fmt.Sprint("k-", i), func(s incident.Group) (incident.Group, bool) { return s, false }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	working.Wait()
	if n := len(b.cells); n > maxCached {
		t.Errorf("%d states at hand, want at most %d", n, maxCached)
	}
}

// TestWhatTwoWriteOnABoardStands has each begin with the board as it left it,
// which the other has changed since.
func TestWhatTwoWriteOnABoardStands(t *testing.T) {
	srv := bustest.Start(t)
	one, two := New(srv.Bus(t, "analyzer")), New(srv.Bus(t, "analyzer"))
	now := time.Now()
	fails := func(app string) heal.Failure {
		f := failure(app, now)
		f.FirstSeen = now
		f.Fingerprint = heal.MakeFingerprint(f.Type, f.Target, heal.Target{}, "", "CrashLoopBackOff")
		return f
	}
	over := func(f heal.Failure) heal.Failure { f.ResolvedAt = now; return f }
	write := func(b *Book, f heal.Failure) {
		t.Helper()
		b.Note(f, "i")
		if err := b.writeNotes(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	write(one, fails("a"))
	write(two, fails("b"))
	write(one, fails("c"))
	write(one, fails("d"))
	write(two, over(fails("a")))
	write(one, fails("a")) // which it thinks is there already
	write(two, over(fails("d")))
	board, err := New(srv.Bus(t, "analyzer")).Board(t.Context(), incident.BoardsOf(fails("a"))[0])
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range board.Going(now) {
		got = append(got, e.Object)
	}
	slices.Sort(got)
	if diff := cmp.Diff(got, []string{"shop/Pod/a", "shop/Pod/b", "shop/Pod/c"}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}
