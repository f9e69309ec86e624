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

const (
	noteEvery = 200 * time.Millisecond // a board is written this often at most
	maxNotes  = 8192                   // that wait; more are dropped, as they are only evidence
)

// notes wait to be written on boards. They are safe for concurrent use.
type notes struct {
	wake chan struct{}   // holds one token: something waits
	left map[string]leaf // how boards were left; only of who writes them

	mu      sync.Mutex // guards what follows
	waiting map[string][]note
	count   int
}

type note struct {
	failure  heal.Failure
	incident string
}

// Note has a failure, or its end, written on the boards that it belongs to, a
// moment later. It does not wait.
func (b *Book) Note(f heal.Failure, incidentID string) {
	f.Evidence = selectorOnly(f.Evidence)
	f.Description = ""
	b.notes.mu.Lock()
	defer b.notes.mu.Unlock()
	for _, key := range incident.BoardsOf(f) {
		if b.notes.count >= maxNotes {
			return
		}
		if b.notes.waiting == nil {
			b.notes.waiting = map[string][]note{}
		}
		b.notes.waiting[key] = append(b.notes.waiting[key], note{f, incidentID})
		b.notes.count++
	}
	select {
	case b.notes.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// selectorOnly keeps a little memory from being much while notes wait.
func selectorOnly(all []heal.Evidence) []heal.Evidence {
	for _, e := range all {
		if e.Path == "spec.selector" {
			return []heal.Evidence{e}
		}
	}
	return nil
}

// KeepBoards writes what is noted until ctx is done. failed is told of what
// could not be written, which is lost.
func (b *Book) KeepBoards(ctx context.Context, failed func(error)) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-b.notes.wake:
		}
		if err := b.writeNotes(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
		timer := time.NewTimer(noteEvery)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (b *Book) writeNotes(ctx context.Context) error {
	b.notes.mu.Lock()
	waiting := b.notes.waiting
	b.notes.waiting, b.notes.count = nil, 0
	b.notes.mu.Unlock()
	var errs []error
	for key, list := range waiting {
		if err := b.writeBoard(ctx, key, list); err != nil {
			errs = append(errs, fmt.Errorf("note %d failures on %s: %w", len(list), key, err))
		}
	}
	return errors.Join(errs...)
}

// writeBoard writes what is news to the board, if anything is. It takes the
// board to be as it left it, until the bucket says otherwise: most of them
// nobody else has written since, and need not be read again.
func (b *Book) writeBoard(ctx context.Context, key string, list []note) error {
	at, known := b.notes.left[key]
	for {
		if !known {
			var err error
			at.board, at.rev, err = b.boards.Get(ctx, key)
			if errors.Is(err, bus.ErrNotFound) {
				at, err = leaf{}, nil
			}
			if err != nil {
				return err
			}
		}
		now, next, changed := time.Now(), at.board, false
		for _, n := range list {
			if noted, news := next.Note(n.failure, n.incident, now); news {
				next, changed = noted, true
			}
		}
		if !changed && known { // perhaps another analyzer wrote something that makes it news
			known = false
			continue
		}
		b.seen.put(key, next, now)
		if !changed {
			return nil
		}
		var err error
		if at.rev == 0 {
			at.rev, err = b.boards.Create(ctx, key, next)
		} else {
			at.rev, err = b.boards.Update(ctx, key, next, at.rev)
		}
		if err == nil {
			b.notes.keep(key, leaf{next, at.rev})
			return nil
		}
		delete(b.notes.left, key)
		if !errors.Is(err, bus.ErrConflict) || ctx.Err() != nil {
			return err
		}
		known = false
	}
}

// A leaf is a board as it was written.
type leaf struct {
	board incident.Board
	rev   uint64
}

// maxLeft is of how many boards it is remembered how they were left.
const maxLeft = 1024

func (n *notes) keep(key string, l leaf) {
	if n.left == nil || len(n.left) >= maxLeft {
		n.left = map[string]leaf{}
	}
	n.left[key] = l
}
