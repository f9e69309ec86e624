package bus_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
)

type note struct{ Text string }

func TestAStoreIsWrittenByCompareAndSet(t *testing.T) {
	b := bustest.New(t, "analyzer")
	s := bus.NewStore[note](b, bus.IncidentsBucket)
	ctx := timeout(t)
	const key = "pod_failure.shop.0f3c"

	if _, _, err := s.Get(ctx, key); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("get of nothing: got %v, want %v", err, bus.ErrNotFound)
	}
	if _, err := s.Update(ctx, key, note{"x"}, 7); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("update of nothing: got %v, want %v", err, bus.ErrConflict)
	}
	first, err := s.Create(ctx, key, note{"one"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(ctx, key, note{"again"}); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("second create: got %v, want %v", err, bus.ErrConflict)
	}
	second, err := s.Update(ctx, key, note{"two"}, first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Update(ctx, key, note{"late"}, first); !errors.Is(err, bus.ErrConflict) {
		t.Errorf("update of an old revision: got %v, want %v", err, bus.ErrConflict)
	}
	v, rev, err := s.Get(ctx, key)
	if err != nil || v != (note{"two"}) || rev != second {
		t.Errorf("got %v at %d (%v), want two at %d", v, rev, err, second)
	}
	for _, old := range []uint64{0, first} {
		if err := s.Delete(ctx, key, old); !errors.Is(err, bus.ErrConflict) {
			t.Errorf("delete of revision %d: got %v, want %v", old, err, bus.ErrConflict)
		}
	}
	if err := s.Delete(ctx, key, second); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get(ctx, key); !errors.Is(err, bus.ErrNotFound) {
		t.Errorf("get of what was deleted: got %v, want %v", err, bus.ErrNotFound)
	}
	if _, err := s.Create(ctx, key, note{"new"}); err != nil {
		t.Errorf("create of what was deleted: %v", err)
	}
}

func TestEightWritersLoseNoUpdate(t *testing.T) {
	server := bustest.Start(t)
	const writers, each = 8, 25
	var wg sync.WaitGroup
	for range writers {
		s := bus.NewStore[int](server.Bus(t, "analyzer"), bus.IncidentsBucket)
		wg.Go(func() {
			for range each {
				for done := false; !done; {
					n, rev, err := s.Get(t.Context(), "counter")
					switch {
					case errors.Is(err, bus.ErrNotFound):
						_, err = s.Create(t.Context(), "counter", 1)
					case err == nil:
						_, err = s.Update(t.Context(), "counter", n+1, rev)
					}
					if err != nil && !errors.Is(err, bus.ErrConflict) {
						t.Error(err)
						return
					}
					done = err == nil
				}
			}
		})
	}
	wg.Wait()
	s := bus.NewStore[int](server.Bus(t, "analyzer"), bus.IncidentsBucket)
	if n, _, err := s.Get(t.Context(), "counter"); err != nil || n != writers*each {
		t.Errorf("got %d (%v), want %d", n, err, writers*each)
	}
}

func TestAllGoesOverWhatIsThereAndNothingElse(t *testing.T) {
	server := bustest.Start(t)
	b := server.Bus(t, "analyzer")
	s := bus.NewStore[int](b, bus.IncidentsBucket)
	collect := func(limit int) (map[string]int, error) {
		got := map[string]int{}
		err := s.All(timeout(t), func(key string, v int, rev uint64) bool {
			if rev == 0 {
				t.Errorf("%s has no revision", key)
			}
			got[key] = v
			return len(got) < limit
		})
		return got, err
	}
	if got, err := collect(10); err != nil || len(got) != 0 {
		t.Errorf("empty bucket: got %v (%v)", got, err)
	}
	want := map[string]int{}
	for i := range 600 { // more than the client buffers
		key := fmt.Sprintf("key.%d", i)
		rev, err := s.Create(t.Context(), key, i)
		if err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := s.Delete(t.Context(), key, rev); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want[key] = i
	}
	got, err := collect(1000)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("all (-want +got), %v:\n%s", err, diff)
	}
	if got, err := collect(1); err != nil || len(got) != 1 {
		t.Errorf("stopped after one: got %d (%v)", len(got), err)
	}

	server.PublishRaw(t, "$KV.SELFHEAL_INCIDENTS.broken", nil, []byte(`"not a number"`))
	got, err = collect(1000)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("all but the broken one (-want +got):\n%s", diff)
	}
	if !bus.IsPermanent(err) || !strings.Contains(err.Error(), `bucket SELFHEAL_INCIDENTS: value of "broken"`) {
		t.Errorf("got %v, want an error that names the broken key", err)
	}
}

func TestAKeyThatIsNoneIsRefused(t *testing.T) {
	s := bus.NewStore[int](bustest.New(t), bus.IncidentsBucket)
	for _, key := range []string{"", ".", "a..b", ".a", "a.", "a b", "a/b", "a*", ">", "ä", strings.Repeat("x", 257)} {
		if _, err := s.Create(t.Context(), key, 1); !bus.IsPermanent(err) {
			t.Errorf("%q: got %v, want a permanent error", key, err)
		}
	}
}

func TestAStoreWaitsForItsBucket(t *testing.T) {
	server := bustest.Start(t)
	b := server.Connect(t, bus.Options{Service: "analyzer"})
	s := bus.NewStore[int](b, bus.IncidentsBucket)
	_, err := s.Create(timeout(t), "a", 1)
	if err == nil || bus.IsPermanent(err) || !strings.Contains(err.Error(), `bucket SELFHEAL_INCIDENTS: create "a": nats: bucket not found`) {
		t.Errorf("got %v, want a transient error that names the bucket", err)
	}
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(timeout(t), "a", 1); err != nil {
		t.Fatal(err)
	}
	server.Stop()
	eventually(t, "the absence shows", func() bool { return b.Ready() != nil })
	begin := time.Now()
	if _, _, err := s.Get(t.Context(), "a"); err == nil || !strings.Contains(err.Error(), "not connected to NATS") {
		t.Errorf("got %v, want it to say that the bus is away", err)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %v to say so", took)
	}
	server.Restart(t)
	eventually(t, "the value is back", func() bool {
		v, _, err := s.Get(t.Context(), "a")
		return err == nil && v == 1
	})
}
