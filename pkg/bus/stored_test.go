package bus_test

import (
	"testing"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
)

func TestWhetherAMessageIsStoredIsToldWithoutStoringIt(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "watcher")
	ask := func(name string, want bool) {
		t.Helper()
		if got, err := bus.Failures.Stored(t.Context(), b, failure(name)); err != nil || got != want {
			t.Errorf("%s is stored: %v, %v; want %v", name, got, err, want)
		}
	}
	ask("cart", false) // of an empty stream
	if err := bus.Failures.Publish(t.Context(), b, failure("cart")); err != nil {
		t.Fatal(err)
	}
	ask("cart", true)
	ask("till", false)
	stream, err := s.JetStream(t).Stream(t.Context(), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 1 {
		t.Errorf("%d messages are stored, want the one that was published", n)
	}
}
