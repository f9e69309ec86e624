package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

const (
	// maxBlind is how long a watch may fail before we say that we see nothing.
	maxBlind = time.Minute
	// remind is how often a lasting failure of a watch is logged again.
	remind = 5 * time.Minute
)

// health is what we know about our own sight of one kind. It is told by the
// requests themselves: client-go retries some errors without telling anybody.
type health struct {
	resource, group string
	log             *slog.Logger

	mu     sync.Mutex // guards what follows
	since  time.Time  // of the first failure after the last success; zero while all is well
	err    error
	logged time.Time
}

// observe returns r, reporting how its requests fare.
func (h *health) observe(r reach) reach {
	return reach{
		List: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list, err := r.List(ctx, o)
			if err != nil {
				h.failed(ctx, "list", err)
			}
			return list, err // only a watch shows what happens next
		},
		Watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			w, err := r.Watch(ctx, o)
			if err != nil {
				h.failed(ctx, "watch", err)
			} else {
				h.works()
			}
			return w, err
		},
	}
}

func (h *health) failed(ctx context.Context, verb string, err error) {
	// An expired resource version is answered by a new list, and a request
	// that we broke off ourselves says nothing.
	if ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	if !h.note(time.Now(), fmt.Errorf("%s %s: %w", verb, h.resource, err)) {
		return
	}
	log := h.log.With("verb", verb, "resource", h.resource, "group", h.group, "err", err)
	if apierrors.IsForbidden(err) {
		log.Error("the API server refuses a watch; the watcher's role lacks a rule; trying again")
	} else {
		log.Warn("cannot watch the cluster; trying again")
	}
}

// note keeps err, and reports whether it is to be logged.
func (h *health) note(now time.Time, err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
	if h.since.IsZero() {
		h.since = now
	}
	if !h.logged.IsZero() && now.Sub(h.logged) < remind {
		return false
	}
	h.logged = now
	return true
}

func (h *health) works() {
	h.mu.Lock()
	since := h.since
	h.since, h.err, h.logged = time.Time{}, nil, time.Time{}
	h.mu.Unlock()
	if !since.IsZero() {
		h.log.Info("watching the cluster again", "resource", h.resource, "group", h.group, "after", time.Since(since).Round(time.Millisecond).String())
	}
}

// blind reports why the kind cannot be seen now, or nil. Short failures are
// no reason: a watch goes on where it broke off.
func (h *health) blind(synced bool, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !synced && h.err != nil:
		return h.err
	case !synced:
		return errors.New(h.resource + ": the initial list has not arrived yet")
	case h.err != nil && now.Sub(h.since) > maxBlind:
		return fmt.Errorf("no watch of %s for %s: %w", h.resource, now.Sub(h.since).Round(time.Second), h.err)
	}
	return nil
}

// troubled reports whether the last request failed: then absence from our
// cache is no proof that an object is gone.
func (h *health) troubled() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err != nil
}
