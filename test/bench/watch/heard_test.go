package watch

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// heard is what was stored on the bus, and when.
type heard struct {
	mu   sync.Mutex // guards what follows
	raws []bus.Raw
	said int // of raws, how many are failures
	read int // of raws, how many are in what follows

	failures  map[string]time.Time // by UID: when the first was stored
	decisions map[string]time.Time
	stored    map[string][]bus.Raw // failures that are not resolved, by UID
}

// listen hears everything on the bus, from its beginning until stop.
func listen(b *testing.B, c *bus.Bus) (h *heard, stop func()) {
	h = &heard{failures: map[string]time.Time{}, decisions: map[string]time.Time{}, stored: map[string][]bus.Raw{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- c.Tail(ctx, time.Time{}, func(m bus.Raw) error {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.raws = append(h.raws, m) // read later: whoever is measured needs the processor now
			if strings.Contains(m.Subject, ".failures.") {
				h.said++
			}
			return nil
		})
	}()
	return h, func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			b.Errorf("listen: %v", err)
		}
	}
}

// count is how many failures were stored, before anything is decoded.
func (h *heard) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.said
}

// failure is when the first failure of a pod was stored.
func (h *heard) failure(uid string) (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.decode()
	at, ok := h.failures[uid]
	return at, ok
}

// decision is when the first decision about a pod was stored.
func (h *heard) decision(uid string) (time.Time, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.decode()
	at, ok := h.decisions[uid]
	return at, ok
}

// announced are the messages that say that a pod fails, by its UID.
func (h *heard) announced() map[string][]bus.Raw {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.decode()
	return h.stored
}

// decode reads what has come since; the caller holds mu. A message that does
// not decode is none of ours.
func (h *heard) decode() {
	for ; h.read < len(h.raws); h.read++ {
		m := h.raws[h.read]
		switch {
		case strings.Contains(m.Subject, ".failures."):
			if e, err := heal.Decode[heal.Failure](m.Data); err == nil && !e.Data.Resolved() {
				first(h.failures, e.Data.Target.UID, m.Time)
				h.stored[e.Data.Target.UID] = append(h.stored[e.Data.Target.UID], m)
			}
		case strings.Contains(m.Subject, ".decisions."):
			if e, err := heal.Decode[heal.Decision](m.Data); err == nil {
				first(h.decisions, e.Data.Failure.Target.UID, m.Time)
			}
		}
	}
}

func first(times map[string]time.Time, uid string, at time.Time) {
	if _, again := times[uid]; !again {
		times[uid] = at
	}
}
