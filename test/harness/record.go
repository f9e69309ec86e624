package harness

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// A Record is everything that was said on the bus, in the order of each stream.
type Record struct {
	mu          sync.Mutex // guards what follows
	failures    []heal.Event[heal.Failure]
	decisions   []heal.Event[heal.Decision]
	results     []heal.Event[heal.Result]
	deadLetters []string
	bad         []error
}

// Listen records the bus from its first message until the test ends.
func Listen(t testing.TB, b *bus.Bus) *Record {
	t.Helper()
	r := &Record{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Tail(ctx, time.Time{}, func(m bus.Raw) error { r.add(m); return nil }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Errorf("listen: %v", err)
		}
		for _, err := range r.bad {
			t.Errorf("a message on the bus does not decode: %v", err)
		}
	})
	return r
}

func (r *Record) add(m bus.Raw) {
	r.mu.Lock()
	defer r.mu.Unlock()
	kind, _, _ := strings.Cut(strings.SplitN(m.Subject, ".", 4)[3], ".")
	switch kind {
	case "failures":
		decode(r, m, &r.failures)
	case "decisions":
		decode(r, m, &r.decisions)
	case "results":
		decode(r, m, &r.results)
	case "dlq":
		r.deadLetters = append(r.deadLetters, string(m.Data))
	}
}

func decode[T heal.Payload](r *Record, m bus.Raw, into *[]heal.Event[T]) {
	e, err := heal.Decode[T](m.Data)
	if err != nil {
		r.bad = append(r.bad, err)
		return
	}
	*into = append(*into, e)
}

// Failures are the announcements so far, resolved ones included.
func (r *Record) Failures() []heal.Event[heal.Failure] { return snapshot(r, &r.failures) }

// Decisions are the decisions so far.
func (r *Record) Decisions() []heal.Event[heal.Decision] { return snapshot(r, &r.decisions) }

// Results are the results so far.
func (r *Record) Results() []heal.Event[heal.Result] { return snapshot(r, &r.results) }

// DeadLetters are the bodies of the dead-letter stream so far.
func (r *Record) DeadLetters() []string { return snapshot(r, &r.deadLetters) }

func snapshot[E any](r *Record, list *[]E) []E {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]E(nil), *list...)
}
