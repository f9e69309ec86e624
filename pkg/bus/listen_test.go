package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
)

// listen listens to a bucket of notes until the test ends.
func listen(t *testing.T, b *bus.Bus) (entries chan bus.Entry[note], complete chan bool) {
	t.Helper()
	entries, complete = make(chan bus.Entry[note], 100), make(chan bool, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- bus.NewStore[note](b, bus.ObserversBucket).Listen(ctx, bus.Listener[note]{
			Entry:    func(e bus.Entry[note]) { entries <- e },
			Complete: func(c bool) { complete <- c },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("listen: %v", err)
		}
	})
	return entries, complete
}

// come waits for the next thing that is told.
func come[T any](t *testing.T, from chan T) T {
	t.Helper()
	var v T
	select {
	case v = <-from:
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
	return v
}

func TestAListenerIsToldWhatThereIsAndThenWhatChanges(t *testing.T) {
	srv := bustest.Start(t)
	s := bus.NewStore[note](srv.Bus(t, "watcher"), bus.ObserversBucket)
	ctx := timeout(t)
	first, err := s.Create(ctx, "a", note{"old"})
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Update(ctx, "a", note{"one"}, first)
	if err != nil {
		t.Fatal(err)
	}
	entries, complete := listen(t, srv.Bus(t, "analyzer"))
	ignoring := cmpopts.IgnoreFields(bus.Entry[note]{}, "Stored")
	expect := func(want bus.Entry[note]) {
		t.Helper()
		got := come(t, entries)
		if diff := cmp.Diff(got, want, ignoring); diff != "" {
			t.Errorf("(-got +want)\n%s", diff)
		}
		if got.Stored.IsZero() {
			t.Error("nobody knows when it was stored")
		}
	}
	expect(bus.Entry[note]{Key: "a", Value: note{"one"}})
	if said := []bool{come(t, complete), come(t, complete)}; !cmp.Equal(said, []bool{false, true}) {
		t.Errorf("complete: %v, want false and then true", said)
	}
	srv.PublishRaw(t, "$KV."+bus.ObserversBucket.Name+".broken", nil, []byte("{"))
	if err := s.Delete(ctx, "a", second); err != nil {
		t.Fatal(err)
	}
	expect(bus.Entry[note]{Key: "a", Deleted: true, News: true})

	srv.Restart(t)
	if come(t, complete) {
		t.Error("complete although the server went away")
	}
	for !come(t, complete) { // several attempts may fail
	}
	eventually(t, "the writer is connected again, too", func() bool {
		_, err := s.Create(ctx, "b", note{"two"})
		return err == nil
	})
	for {
		if e := come(t, entries); e.Key == "b" { // before it, "a" is told again
			if diff := cmp.Diff(e, bus.Entry[note]{Key: "b", Value: note{"two"}, News: true}, ignoring); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
			return
		}
	}
}
