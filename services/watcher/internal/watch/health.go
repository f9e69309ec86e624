package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
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
// requests themselves. It is a stream.Observer.
type health struct {
	resource, group, namespace string
	optional                   bool // its absence is no trouble, and not logged as one
	log                        *slog.Logger

	mu     sync.Mutex // guards what follows
	asked  time.Time  // of the request that is not answered yet; zero when none is
	heard  time.Time  // when something last came
	since  time.Time  // of the first failure after the last success; zero while all is well
	err    error
	logged time.Time
}

var errNoAnswer = errors.New("the API server does not answer")

// Asked notes that a request begins, and has its answer told.
func (h *health) Asked(verb string) (answered func(error)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	asked := time.Now()
	h.asked = asked
	late := time.AfterFunc(maxAnswer, func() { h.late(verb, asked) })
	return func(err error) {
		late.Stop()
		h.mu.Lock()
		h.asked = time.Time{}
		h.mu.Unlock()
		switch {
		case err != nil:
			h.failed(verb, err, asked)
		case verb == "watch": // only a watch shows what happens next
			h.works()
		}
	}
}

// Failed notes that a watch that had begun has failed.
func (h *health) Failed(verb string, err error) { h.failed(verb, err, time.Now()) }

// Heard notes that something has come.
func (h *health) Heard() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.heard = time.Now()
}

// failed takes in an error of a request that was begun at since.
func (h *health) failed(verb string, err error, since time.Time) {
	// An expired resource version is answered by reading everything anew, and
	// a request that we broke off ourselves says nothing.
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) || errors.Is(err, context.Canceled) {
		return
	}
	h.mu.Lock()
	news := h.note(verb, err, since)
	h.mu.Unlock()
	if news {
		h.tell(verb, err)
	}
}

// late takes in that a request begun then is not answered yet, if that is so.
func (h *health) late(verb string, asked time.Time) {
	h.mu.Lock()
	news := h.asked.Equal(asked) && h.note(verb, errNoAnswer, asked)
	h.mu.Unlock()
	if news {
		h.tell(verb, errNoAnswer)
	}
}

// note keeps an error, and reports whether it is to be logged. The caller
// holds mu.
func (h *health) note(verb string, err error, since time.Time) bool {
	now := time.Now()
	h.err = fmt.Errorf("%s %s: %w", verb, h.what(), err)
	if h.since.IsZero() {
		h.since = since
	}
	if !h.logged.IsZero() && now.Sub(h.logged) < remind {
		return false
	}
	h.logged = now
	return true
}

func (h *health) what() string {
	if h.namespace == "" {
		return h.resource
	}
	return h.resource + " in " + h.namespace
}

func (h *health) tell(verb string, err error) {
	log := h.log.With("verb", verb, "resource", h.resource, "group", h.group, "err", err)
	if h.namespace != "" {
		log = log.With("namespace", h.namespace)
	}
	switch {
	case h.optional && (apierrors.IsNotFound(err) || apierrors.IsForbidden(err)):
		log.Info("this cluster does not serve a kind, or does not show it to us; doing without it, and looking again now and then")
	case apierrors.IsForbidden(err):
		log.Error("the API server refuses a watch; the watcher's role lacks a rule; trying again")
	default:
		log.Warn("cannot watch the cluster; trying again")
	}
}

func (h *health) works() {
	h.mu.Lock()
	since := h.since
	h.since, h.err, h.logged, h.heard = time.Time{}, nil, time.Time{}, time.Now()
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
		return errors.New(h.what() + ": the initial list has not arrived yet")
	case h.err != nil && now.Sub(h.since) > maxBlind:
		return fmt.Errorf("no watch of %s for %s: %w", h.what(), now.Sub(h.since).Round(time.Second), h.err)
	}
	return nil
}

// troubled reports whether the last request failed: then not to have seen an
// object is no proof that it is gone.
func (h *health) troubled() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err != nil
}
