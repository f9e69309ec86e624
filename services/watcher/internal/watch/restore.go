package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
	"github.com/selfheal/selfheal/services/watcher/internal/own"
)

const (
	// reload is how often the stored episodes are read again: a watcher that is
	// gone for good may have left some that no other knows.
	reload      = 10 * time.Minute
	reloadLimit = time.Minute

	// arrival is how long an object that the store speaks of may take to reach us.
	arrival = 5 * time.Second
)

// remember reads the stored episodes, at once and then now and then.
func (w *Watcher) remember(ctx context.Context) {
	retry := retryFirst
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		n, err := w.restore(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !bus.IsPermanent(err):
			// Just after the start the bucket may have to be made yet.
			if retry >= retryLimit/2 && w.forgetful.CompareAndSwap(false, true) {
				w.log.Warn("stored episodes cannot be read; trying again", "err", err)
			}
			timer.Reset(retry)
			retry = min(2*retry, retryLimit)
			continue
		case err != nil:
			w.log.Error("some stored episodes cannot be understood; they are left alone", "err", err)
		case w.forgetful.CompareAndSwap(true, false) || n > 0:
			w.log.Info("stored episodes taken over", "count", n)
		}
		retry = retryFirst
		timer.Reset(reload)
	}
}

// restore enters the stored episodes into the book, and counts those that were
// new to it. Whether they go on is judged when their objects are looked at.
func (w *Watcher) restore(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, reloadLimit)
	defer cancel()
	stale := map[string]uint64{}
	err = w.store.All(ctx, func(key string, rec episode.Record, rev uint64) bool {
		t := rec.Failure.Target
		if rec.Resting() {
			if rec.Stale(time.Now()) {
				stale[key] = rev
			}
			return true
		}
		t.UID = rec.Key.UID
		s, _ := w.sourceOf(t)
		dropped := s == nil && strings.HasPrefix(rec.Key.Detector, own.Prefix) // from the file, and nothing else of the kind is left
		if key != rec.Key.ID() || s == nil && !dropped {
			return true // of a later version, which watches more than we do
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		if dropped {
			w.book.Restore(time.Now(), rec, rev, 0)
			w.enqueue(w.book.Gone(time.Now(), rec.Key.UID))
			return true
		}
		if w.book.Restore(time.Now(), rec, rev, min(arrival, w.cfg.Recheck)) {
			n++
		}
		return true
	})
	w.poke()
	for key, rev := range stale {
		// Another watcher may be quicker, or the same may have begun again.
		if err := w.store.Delete(ctx, key, rev); err != nil && !errors.Is(err, bus.ErrConflict) && !errors.Is(err, bus.ErrNotFound) {
			return n, fmt.Errorf("forget what ended long ago: %w", err)
		}
	}
	return n, err
}
