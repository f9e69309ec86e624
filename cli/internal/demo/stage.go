package demo

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/selfheal/selfheal/cli/internal/timeline"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// A stage is where scenarios play: the stack, and what its messages tell.
type stage struct {
	*stack
	live *timeline.Live

	mu          sync.Mutex
	watches     []*watch // guarded by mu
	deadLetters int      // guarded by mu
}

// A watch observes what the messages tell about one scenario.
type watch struct {
	stage   *stage
	about   func(heal.Failure) bool
	o       observation   // guarded by stage.mu
	changed chan struct{} // closed and replaced when o changes; guarded by stage.mu
}

// follow hands every message to the watches and on to the timeline, until ctx
// is done.
func (s *stage) follow(ctx context.Context, since time.Time, messages chan<- bus.Raw) error {
	err := s.bus.Tail(ctx, since, func(raw bus.Raw) error {
		// Shown first: what a scenario says about it comes below it then.
		select {
		case messages <- raw:
			s.observe(raw)
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("follow the bus: %w", err)
	}
	return nil
}

func (s *stage) observe(raw bus.Raw) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if raw.Stream == heal.StreamPrefix+"DLQ" {
		s.deadLetters++
	}
	for _, w := range s.watches {
		w.o = w.o.add(raw, w.about)
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

// watch begins to observe what is about the scenario, which breaks things now.
func (s *stage) watch(about func(heal.Failure) bool) *watch {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &watch{stage: s, about: about, o: observation{Broken: time.Now()}, changed: make(chan struct{})}
	s.watches = append(s.watches, w)
	return w
}

// look returns what was observed so far, and a channel that is closed when
// there is more.
func (w *watch) look() (observation, <-chan struct{}) {
	w.stage.mu.Lock()
	defer w.stage.mu.Unlock()
	return w.o, w.changed
}

// until waits for what was observed to satisfy enough.
func (w *watch) until(ctx context.Context, what string, enough func(observation) bool) error {
	for {
		o, changed := w.look()
		if enough(o) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain for %s: %w", what, context.Cause(ctx))
		}
	}
}

// say tells what the demo itself does, as a line of the timeline.
func (s *stage) say(ctx context.Context, word, format string, args ...any) {
	s.live.Say(ctx, timeline.Line{At: time.Now(), Stage: timeline.Aside, Word: word, Text: fmt.Sprintf(format, args...)})
}
