package analyzer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// remembered is how far back the streams are read to rebuild what is
// remembered: as long as failures stay in theirs.
const remembered = 7 * 24 * time.Hour

// rebuild makes what is remembered anew from the streams, if the bucket does
// not say that it was made: it is new, or somebody has lost or deleted it. What
// is in the bucket all the same is left as it is.
func (a *analyzer) rebuild(ctx context.Context) error {
	made, err := a.book.Made(ctx)
	if err != nil || made {
		return err
	}
	began := time.Now()
	m := newMemory(a.judge())
	taken, err := m.read(ctx, a.bus, began.Add(-remembered))
	if err != nil {
		return err
	}
	written, err := a.book.Fill(ctx, m.contents(time.Now()))
	if err != nil {
		return err
	}
	if taken > 0 {
		a.log.Info("memory rebuilt from the streams", "messages", taken, "written", written, "seconds", time.Since(began).Seconds())
	}
	return nil
}

// begin rebuilds what is remembered before anything is judged by it.
func (a *analyzer) begin(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		err := a.rebuild(ctx)
		switch {
		case err == nil || ctx.Err() != nil:
			return
		case errors.Is(err, bus.ErrPermission):
			a.log.Warn("begins with what is remembered as it is, as the streams may not be read", "err", err)
			return
		}
		a.log.Warn("waits with what is to be judged until what is remembered is known", "err", err)
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// A recollection is a message put into the terms of a memory.
type recollection struct {
	stored time.Time
	take   func(*memory)
}

// read takes all that three streams hold since then, merged by when it was
// stored, so that no more than a few messages of each are at hand at once.
func (m *memory) read(ctx context.Context, b *bus.Bus, since time.Time) (taken int, err error) {
	g, ctx := errgroup.WithContext(ctx)
	streams := []string{bus.Failures.Stream, bus.Decisions.Stream, bus.Results.Stream}
	lines := make([]chan recollection, len(streams))
	for i, stream := range streams {
		lines[i] = make(chan recollection, 256)
		g.Go(func() error {
			defer close(lines[i])
			return b.Scan(ctx, stream, since, func(r bus.Raw) error {
				select {
				case lines[i] <- recollection{r.Time, recollect(r)}:
					return nil
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			})
		})
	}
	g.Go(func() error {
		next, open := make([]recollection, len(lines)), make([]bool, len(lines))
		for i := range lines {
			next[i], open[i] = <-lines[i]
		}
		for {
			first := -1
			for i := range next {
				if open[i] && (first < 0 || next[i].stored.Before(next[first].stored)) {
					first = i
				}
			}
			if first < 0 {
				return nil
			}
			next[first].take(m)
			taken++
			next[first], open[first] = <-lines[first]
		}
	})
	if err := g.Wait(); err != nil {
		return taken, fmt.Errorf("rebuild what is remembered: %w", err)
	}
	return taken, nil
}

// recollect reads a message. What cannot be read, and what is of another kind,
// such as an approval, says nothing of what is remembered. It is not checked
// as strictly as what is to be judged: whatever no analyzer took has no
// decision, and is not remembered.
func recollect(r bus.Raw) func(*memory) {
	switch r.Stream {
	case bus.Failures.Stream:
		var e heal.Event[heal.Failure]
		if json.Unmarshal(r.Data, &e) == nil && (e.Type == heal.TypeFailureDetected || e.Type == heal.TypeFailureResolved) {
			e.Data.Envelope = heal.Envelope{ID: e.ID, Incident: e.CorrelationID}
			return func(m *memory) { m.failed(e.Data, r.Time) }
		}
	case bus.Decisions.Stream:
		var e heal.Event[heal.Decision]
		if json.Unmarshal(r.Data, &e) == nil && e.Type == heal.TypeDecisionMade {
			return func(m *memory) { m.decided(e.Data) }
		}
	case bus.Results.Stream:
		var e heal.Event[heal.Result]
		if json.Unmarshal(r.Data, &e) == nil && e.Type == heal.TypeActionCompleted {
			return func(m *memory) { m.ended(e.Data, r.Time) }
		}
	}
	return func(*memory) {}
}
