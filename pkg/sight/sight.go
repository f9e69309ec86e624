// Package sight keeps at hand whether what the watchers see may be acted upon,
// for those who act: the latest word of every watcher, as the bus brings it,
// and what heal.JudgeSight makes of all together.
//
// Asking costs no request. What a watcher said counts from when it reached us,
// by our own clock, so that clocks that differ do no harm; only of what was
// said before we listened the server's clock must do.
package sight

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

const (
	// patience is how long an answer waits for the watchers' words to be read,
	// after a start or while NATS comes back.
	patience = 2 * time.Second
	// kept is how long the last word of a watcher that is gone is remembered.
	kept = 10 * time.Minute
)

// A View is what the watchers said last. It is safe for concurrent use.
type View struct {
	store *bus.Store[heal.Observer]
	log   *slog.Logger

	mu       sync.Mutex // guards what follows
	heard    map[string]heal.Heard
	since    time.Time     // when all that was said was first read
	complete bool          // all that was said has been read, and we listen
	changed  chan struct{} // closed and replaced when complete changes
}

// New returns a View that knows nothing until Run.
func New(b *bus.Bus, log *slog.Logger) *View {
	return &View{
		store: bus.NewStore[heal.Observer](b, bus.ObserversBucket), log: log,
		heard: map[string]heal.Heard{}, changed: make(chan struct{}),
	}
}

// Run listens to the watchers until ctx is done.
func (v *View) Run(ctx context.Context) error {
	return v.store.Listen(ctx, bus.Listener[heal.Observer]{Entry: v.hear, Complete: v.completed})
}

func (v *View) hear(e bus.Entry[heal.Observer]) {
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, h := range v.heard {
		if now.Sub(h.At) > kept && len(v.heard) > 1 {
			delete(v.heard, id)
		}
	}
	if e.Deleted {
		delete(v.heard, e.Key)
		return
	}
	if err := e.Value.Validate(); err != nil {
		v.log.Warn("what a watcher says about its sight is not valid; it does not count", "observer", heal.Clean(e.Key, 64), "err", err)
		return
	}
	at := now
	if !e.News && e.Stored.Before(now) {
		at = e.Stored
	}
	if known, ok := v.heard[e.Key]; ok && known.SeenAt.Equal(e.Value.SeenAt) {
		return // told again
	}
	v.heard[e.Key] = heal.Heard{Observer: e.Value, At: at}
}

func (v *View) completed(complete bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.complete == complete {
		return
	}
	v.complete = complete
	if complete && v.since.IsZero() {
		v.since = time.Now()
	}
	close(v.changed)
	v.changed = make(chan struct{})
}

// Now is what the watchers' sight comes to. It waits a moment if we are just
// about to hear of it.
func (v *View) Now(ctx context.Context) heal.Sight {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	for {
		v.mu.Lock()
		complete, changed := v.complete, v.changed
		v.mu.Unlock()
		if complete {
			return v.judge()
		}
		select {
		case <-changed:
		case <-timer.C:
			return v.judge()
		case <-ctx.Done():
			return v.judge()
		}
	}
}

func (v *View) judge() heal.Sight {
	v.mu.Lock()
	defer v.mu.Unlock()
	heard := make([]heal.Heard, 0, len(v.heard))
	for _, h := range v.heard {
		heard = append(heard, h)
	}
	return heal.JudgeSight(heard, v.since, time.Now())
}
