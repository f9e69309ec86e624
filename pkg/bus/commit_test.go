package bus_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

// together runs do n times at once, and returns when all have ended.
func together(n int, do func(i int)) {
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			<-start
			do(i)
		})
	}
	close(start)
	all.Wait()
}

func TestManyPublishersAtOnceStoreEachMessageOnce(t *testing.T) {
	b := bustest.New(t)
	const messages, copies = 300, 3
	together(messages*copies, func(i int) {
		if err := bus.Failures.Publish(t.Context(), b, failure(fmt.Sprintf("pod-%d", i%messages))); err != nil {
			t.Error(err)
		}
	})
	seen := map[string]int{}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	err := b.Tail(ctx, time.Time{}, func(m bus.Raw) error {
		e, err := heal.Decode[heal.Failure](m.Data)
		if err != nil {
			return err
		}
		if seen[e.Data.ResourceName]++; len(seen) == messages {
			cancel()
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	for name, n := range seen {
		if n != 1 {
			t.Errorf("%s is stored %d times, want 1", name, n)
		}
	}
	if len(seen) != messages {
		t.Errorf("%d messages are stored, want %d", len(seen), messages)
	}
}

func TestMessageThatIsRefusedTakesNoOtherWithIt(t *testing.T) {
	b := bustest.New(t)
	together(200, func(i int) {
		f := failure(fmt.Sprintf("pod-%d", i))
		bad := i%20 == 7
		if bad {
			for range 300 {
				f.Evidence = append(f.Evidence, heal.Evidence{Path: "status.message", Value: string(make([]byte, 200))})
			}
		}
		err := bus.Failures.Publish(t.Context(), b, f)
		if bad != bus.IsPermanent(err) || !bad && err != nil {
			t.Errorf("message %d, bad %t: error %v", i, bad, err)
		}
	})
}

func TestOfManyWritersAtOnceOneWinsEachRevision(t *testing.T) {
	b := bustest.New(t)
	s := bus.NewStore[int](b, bus.EpisodesBucket)
	const keys, writers = 40, 5
	var mu sync.Mutex
	won, revs := map[string]int{}, map[string]uint64{}
	note := func(key string, writer int, rev uint64, err error) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			if _, twice := won[key]; twice {
				t.Errorf("%s was written by two", key)
			}
			won[key], revs[key] = writer, rev
		case !errors.Is(err, bus.ErrConflict):
			t.Errorf("%s: %v", key, err)
		}
	}
	compare := func(what string) {
		t.Helper()
		got, gotRevs := map[string]int{}, map[string]uint64{}
		if err := s.All(t.Context(), func(key string, v int, rev uint64) bool {
			got[key], gotRevs[key] = v, rev
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(won, got); diff != "" {
			t.Errorf("values after %s (-told +stored):\n%s", what, diff)
		}
		if diff := cmp.Diff(revs, gotRevs); diff != "" {
			t.Errorf("revisions after %s (-told +stored):\n%s", what, diff)
		}
	}
	key := func(i int) string { return fmt.Sprintf("k.%d", i%keys) }

	together(keys*writers, func(i int) {
		rev, err := s.Create(t.Context(), key(i), i)
		note(key(i), i, rev, err)
	})
	compare("create")

	before := maps.Clone(revs)
	clear(won)
	together(keys*writers, func(i int) {
		rev, err := s.Update(t.Context(), key(i), -i, before[key(i)])
		note(key(i), -i, rev, err)
	})
	compare("update")

	before = maps.Clone(revs)
	clear(won)
	clear(revs)
	together(keys, func(i int) {
		if err := s.Delete(t.Context(), key(i), before[key(i)]); err != nil {
			t.Error(err)
		}
	})
	compare("delete")
	together(keys, func(i int) { // over the marks of deletion
		rev, err := s.Create(t.Context(), key(i), i)
		note(key(i), i, rev, err)
	})
	compare("create again")
}
