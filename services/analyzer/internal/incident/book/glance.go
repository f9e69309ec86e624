package book

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

// glanceFor is how old what Group and Board return may be: a failure that
// follows from another is announced long after, and a storm must not cost a
// read for each announcement.
const glanceFor = time.Second

// glances are values that were read not long ago. The zero value is ready, and
// it is safe for concurrent use.
type glances[V any] struct {
	mu sync.Mutex // guards at
	at map[string]glance[V]
}

type glance[V any] struct {
	value V
	at    time.Time
}

func (g *glances[V]) get(key string, now time.Time) (V, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	seen, ok := g.at[key]
	return seen.value, ok && now.Sub(seen.at) < glanceFor
}

func (g *glances[V]) put(key string, v V, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.at == nil || len(g.at) >= maxCached {
		for old, seen := range g.at {
			if now.Sub(seen.at) >= glanceFor {
				delete(g.at, old)
			}
		}
		if g.at == nil || len(g.at) >= maxCached {
			g.at = map[string]glance[V]{}
		}
	}
	g.at[key] = glance[V]{v, now}
}

// Group is a group as it was a moment ago; the zero Group if there is none.
func (b *Book) Group(ctx context.Context, key string) (incident.Group, error) {
	return look(ctx, b.store, &b.groups, key)
}

// Board is a board as it was a moment ago; the zero Board if there is none.
func (b *Book) Board(ctx context.Context, key string) (incident.Board, error) {
	return look(ctx, b.boards, &b.seen, key)
}

// GroupAtHand is Group, if that needs no request.
func (b *Book) GroupAtHand(key string) (incident.Group, bool) { return b.groups.get(key, time.Now()) }

// BoardAtHand is Board, if that needs no request.
func (b *Book) BoardAtHand(key string) (incident.Board, bool) { return b.seen.get(key, time.Now()) }

func look[V any](ctx context.Context, store *bus.Store[V], seen *glances[V], key string) (V, error) {
	now := time.Now()
	if v, ok := seen.get(key, now); ok {
		return v, nil
	}
	v, _, err := store.Get(ctx, key)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return v, fmt.Errorf("look at %s: %w", key, err)
	}
	seen.put(key, v, now)
	return v, nil
}

// isBoard tells the keys of boards from those of groups.
func isBoard(key string) bool { return strings.HasPrefix(key, "b-") }
