// Package sighttest reads in a test what the watchers say about their sight,
// as whoever acts on their word does.
package sighttest

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/sight"
)

// Start follows the sight until the test ends.
func Start(t testing.TB, b *bus.Bus) *sight.View {
	t.Helper()
	v := sight.New(b, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("following the sight ended with %v", err)
		}
	})
	return v
}

// Until returns as soon as the sight is as wanted, and fails the test if it is
// not within that time.
func Until(t testing.TB, within time.Duration, v *sight.View, want string, is func(heal.Sight) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		got := v.Now(ctx)
		if is(got) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("sight %+v, want %s", got, want)
		case <-tick.C:
		}
	}
}

// Is is Until for one very sight.
func Is(t testing.TB, v *sight.View, want heal.Sight) {
	t.Helper()
	Until(t, 20*time.Second, v, want.Detail, func(got heal.Sight) bool { return got == want })
}
