// Package book keeps the groups, boards and purses of package incident in a bucket that
// any number of analyzers share. It promises that no change of a group is lost,
// and that one which is reported as made is stored. What is noted on boards
// follows a moment later, and may be lost with the process.
package book

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

// maxCached is how many states a Book keeps at hand while nobody uses them.
const maxCached = 4096

// A Book keeps groups in the incidents bucket. Within a process, changes
// of one group are made in turn, and those that arrive while another is being
// written are written together, so a storm on one owner costs a write
// for many announcements. It is safe for concurrent use.
type Book struct {
	store     *bus.Store[incident.Group]
	boards    *bus.Store[incident.Board]
	purses    *bus.Store[incident.Purse]
	colophons *bus.Store[colophon]
	groups    glances[incident.Group]
	seen      glances[incident.Board]
	notes     notes

	mu    sync.Mutex // guards cells and what is in them, except as noted
	cells map[string]*cell
}

// A cell is one group at hand.
type cell struct {
	waiting []*change
	led     bool     // somebody writes, or was told to
	told    []string // decisions told since the last write

	// Used only by who leads.
	cached bool
	state  incident.Group
	rev    uint64 // 0: the bucket does not hold the key
}

// A change waits to be made.
type change struct {
	fn   func(incident.Group) (incident.Group, bool)
	turn chan turn
}

// A turn tells a waiting change that it was made, or that its maker is to lead.
type turn struct {
	lead bool
	err  error
}

// New returns the book that b's incidents bucket holds.
func New(b *bus.Bus) *Book {
	return &Book{
		store:     bus.NewStore[incident.Group](b, bus.IncidentsBucket),
		boards:    bus.NewStore[incident.Board](b, bus.IncidentsBucket),
		purses:    bus.NewStore[incident.Purse](b, bus.IncidentsBucket),
		colophons: bus.NewStore[colophon](b, bus.IncidentsBucket),
		cells:     map[string]*cell{},
		notes:     notes{wake: make(chan struct{}, 1)},
	}
}

// Update changes a group. fn is called with the newest, and again whenever
// another analyzer wrote in between: only what its last call returned holds,
// and it is written before Update returns. If fn returns false, nothing is
// written, and the group that it saw was the newest.
func (b *Book) Update(ctx context.Context, key string, fn func(incident.Group) (incident.Group, bool)) error {
	mine := &change{fn: fn, turn: make(chan turn, 1)}
	b.mu.Lock()
	c := b.cells[key]
	if c == nil {
		c = &cell{}
		b.cells[key] = c
	}
	c.waiting = append(c.waiting, mine)
	lead := !c.led
	c.led = true
	b.mu.Unlock()

	// The wait does not look at ctx: whoever leads is bound by a timeout of
	// its own, and a leader that left would strand the others.
	for {
		if lead {
			b.lead(ctx, key, c)
		}
		t := <-mine.turn
		if !t.lead {
			return t.err
		}
		lead = true
	}
}

// lead makes all the changes that wait, and passes the lead on.
func (b *Book) lead(ctx context.Context, key string, c *cell) {
	b.mu.Lock()
	batch := c.waiting
	c.waiting = nil
	b.mu.Unlock()

	err := errors.New("given up, as another change of the same state panicked")
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, ch := range batch {
			ch.turn <- turn{err: err}
		}
		if len(c.waiting) > 0 {
			c.waiting[0].turn <- turn{lead: true}
			return
		}
		c.led = false
		b.shrink()
	}()
	if err = b.commit(ctx, key, c, batch); err != nil {
		err = fmt.Errorf("update incident %s: %w", key, err)
	}
}

// commit writes the state with all of batch's changes made.
func (b *Book) commit(ctx context.Context, key string, c *cell, batch []*change) error {
	for {
		fresh := !c.cached
		if fresh {
			if err := b.load(ctx, key, c); err != nil {
				return err
			}
		}
		b.mu.Lock()
		told := c.told
		b.mu.Unlock()

		next, changed := c.state.Tell(told), false
		for _, ch := range batch {
			if s, ok := ch.fn(next); ok {
				next, changed = s, true
			}
		}
		if !changed {
			if fresh {
				return nil
			}
			c.cached = false // perhaps another analyzer wrote something that changes the answer
			continue
		}
		rev, err := b.write(ctx, key, next, c.rev)
		if err != nil {
			// Of an error we do not know whether it was written.
			c.cached = false
			if errors.Is(err, bus.ErrConflict) && ctx.Err() == nil {
				continue
			}
			return err
		}
		c.state, c.rev = next, rev
		b.groups.put(key, next, time.Now())
		b.mu.Lock()
		c.told = c.told[len(told):]
		b.mu.Unlock()
		return nil
	}
}

func (b *Book) load(ctx context.Context, key string, c *cell) error {
	s, rev, err := b.store.Get(ctx, key)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		s, rev = incident.Group{}, 0
	case err != nil:
		return err
	}
	c.state, c.rev, c.cached = s, rev, true
	return nil
}

func (b *Book) write(ctx context.Context, key string, s incident.Group, rev uint64) (uint64, error) {
	if rev == 0 {
		return b.store.Create(ctx, key, s)
	}
	return b.store.Update(ctx, key, s, rev)
}

// Told notes that a decision was told. It is written with the next change of
// the state; until then another analyzer may tell it again, in vain.
func (b *Book) Told(key, decision string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.cells[key]; c != nil {
		c.told = append(c.told, decision)
	}
}

// shrink lets go of a state that nobody uses when there are too many. The
// caller holds mu.
func (b *Book) shrink() {
	if len(b.cells) <= maxCached {
		return
	}
	for key, c := range b.cells { // in no order: any will do
		if !c.led {
			delete(b.cells, key)
			return
		}
	}
}

// Active counts the episodes that are going on, by type, as the bucket has them.
func (b *Book) Active(ctx context.Context, now time.Time) (map[heal.FailureType]int, error) {
	active := map[heal.FailureType]int{}
	for _, t := range heal.FailureTypes {
		active[t] = 0
	}
	err := b.store.All(ctx, func(_ string, g incident.Group, _ uint64) bool {
		for _, s := range g.States {
			if n := s.Open(now); n > 0 {
				active[s.Type] += n
			}
		}
		return true
	})
	if err != nil && !bus.IsPermanent(err) { // that is a value that nobody can read
		return nil, fmt.Errorf("count active failures: %w", err)
	}
	return active, nil
}

// Incident finds the groups in which an incident has a part.
func (b *Book) Incident(ctx context.Context, id string) ([]incident.Group, error) {
	var found []incident.Group
	err := b.store.All(ctx, func(_ string, g incident.Group, _ uint64) bool {
		for _, s := range g.States {
			if s.Incident.ID == id {
				found = append(found, g)
				break
			}
		}
		return true
	})
	if err != nil && !bus.IsPermanent(err) {
		return nil, fmt.Errorf("look for incident %s: %w", id, err)
	}
	return found, nil
}

// Sweep deletes the groups, boards and purses in which nothing is left to
// remember.
func (b *Book) Sweep(ctx context.Context, now time.Time, window time.Duration) (deleted int, err error) {
	groups, err := forget(ctx, b.store, func(key string, g incident.Group) bool {
		return key != colophonKey && !isBoard(key) && !isPurse(key) && g.Forgettable(now, window)
	})
	if err != nil {
		return groups, fmt.Errorf("sweep incidents: %w", err)
	}
	boards, err := forget(ctx, b.boards, func(key string, board incident.Board) bool { return isBoard(key) && board.Idle(now) })
	if err != nil {
		return groups + boards, fmt.Errorf("sweep boards: %w", err)
	}
	purses, err := forget(ctx, b.purses, func(key string, p incident.Purse) bool { return isPurse(key) && p.Idle(now) })
	if err != nil {
		return groups + boards + purses, fmt.Errorf("sweep budgets: %w", err)
	}
	return groups + boards + purses, nil
}

// forget deletes the keys whose values are of no use, unless they are written
// again meanwhile.
func forget[V any](ctx context.Context, store *bus.Store[V], useless func(key string, v V) bool) (deleted int, err error) {
	old := map[string]uint64{}
	err = store.All(ctx, func(key string, v V, rev uint64) bool {
		if useless(key, v) {
			old[key] = rev
		}
		return true
	})
	if err != nil && !bus.IsPermanent(err) {
		return 0, err
	}
	for key, rev := range old {
		switch err := store.Delete(ctx, key, rev); {
		case errors.Is(err, bus.ErrConflict): // it is needed again
		case err != nil:
			return deleted, err
		default:
			deleted++
		}
	}
	return deleted, nil
}
