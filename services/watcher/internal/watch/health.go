package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
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
	// maxAnswer is how long the API server may take to begin a watch.
	maxAnswer = 10 * time.Second
	// remind is how often a lasting failure of a watch is logged again.
	remind = 5 * time.Minute
)

// health is what we know about our own sight of one kind. It is told by the
// requests themselves: client-go tries some of them again, for minutes,
// without telling anybody.
type health struct {
	resource, group string
	log             *slog.Logger

	mu     sync.Mutex // guards what follows
	asked  time.Time  // of the watch that is being asked for; zero when none is
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
				h.failed(ctx, "list", err, time.Now())
			}
			return list, err // only a watch shows what happens next
		},
		Watch: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			asked := h.ask()
			late := time.AfterFunc(maxAnswer, func() { h.late(ctx, asked) })
			defer late.Stop()
			w, err := r.Watch(ctx, o)
			h.answered()
			switch {
			case err != nil:
				h.failed(ctx, "watch", err, asked)
			case reflect.TypeOf(w) == reflect.TypeOf(watch.NewEmptyWatch()):
				// What client-go makes of a timeout or a broken connection.
				h.failed(ctx, "watch", errNoAnswer, asked)
			default:
				h.works()
			}
			return w, err
		},
	}
}

var errNoAnswer = errors.New("the API server does not answer")

func (h *health) ask() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = time.Now()
	return h.asked
}

func (h *health) answered() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked = time.Time{}
}

// failed takes in an error of a request that was begun at since.
func (h *health) failed(ctx context.Context, verb string, err error, since time.Time) {
	// An expired resource version is answered by a new list, and a request
	// that we broke off ourselves says nothing.
	if ctx.Err() != nil || apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return
	}
	h.mu.Lock()
	news := h.note(verb, err, since)
	h.mu.Unlock()
	if news {
		h.tell(verb, err)
	}
}

// late takes in that a watch asked for then has not begun yet, if that is so.
func (h *health) late(ctx context.Context, asked time.Time) {
	if ctx.Err() != nil {
		return
	}
	h.mu.Lock()
	news := h.asked.Equal(asked) && h.note("watch", errNoAnswer, asked)
	h.mu.Unlock()
	if news {
		h.tell("watch", errNoAnswer)
	}
}

// note keeps an error, and reports whether it is to be logged. The caller
// holds mu.
func (h *health) note(verb string, err error, since time.Time) bool {
	now := time.Now()
	h.err = fmt.Errorf("%s %s: %w", verb, h.resource, err)
	if h.since.IsZero() {
		h.since = since
	}
	if !h.logged.IsZero() && now.Sub(h.logged) < remind {
		return false
	}
	h.logged = now
	return true
}

func (h *health) tell(verb string, err error) {
	log := h.log.With("verb", verb, "resource", h.resource, "group", h.group, "err", err)
	if apierrors.IsForbidden(err) {
		log.Error("the API server refuses a watch; the watcher's role lacks a rule; trying again")
	} else {
		log.Warn("cannot watch the cluster; trying again")
	}
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
