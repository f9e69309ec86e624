package book

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

// Contents are what a book holds, by key.
type Contents struct {
	Groups map[string]incident.Group
	Boards map[string]incident.Board
	Purses map[string]incident.Purse
}

// A colophon says that the book was made as a whole, and when.
type colophon struct {
	Made time.Time `json:"made"`
}

const colophonKey = "colophon"

// Made reports whether the book was made, by Fill. If not, the bucket is new,
// or what it held was lost.
func (b *Book) Made(ctx context.Context) (bool, error) {
	_, _, err := b.colophons.Get(ctx, colophonKey)
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return false, fmt.Errorf("look whether incidents are remembered: %w", err)
	}
	return err == nil, nil
}

// Fill writes what the book does not hold of all, and then that it is made. It
// returns how much it wrote. Two may do so at once.
func (b *Book) Fill(ctx context.Context, all Contents) (written int, err error) {
	var n atomic.Int64
	g, filling := errgroup.WithContext(ctx)
	g.SetLimit(64)
	fill(filling, g, b.store, all.Groups, &n)
	fill(filling, g, b.boards, all.Boards, &n)
	fill(filling, g, b.purses, all.Purses, &n)
	if err := g.Wait(); err != nil {
		return int(n.Load()), fmt.Errorf("write what is remembered: %w", err)
	}
	if _, err := b.colophons.Create(ctx, colophonKey, colophon{time.Now().UTC()}); err != nil && !errors.Is(err, bus.ErrConflict) {
		return int(n.Load()), fmt.Errorf("write that incidents are remembered: %w", err)
	}
	return int(n.Load()), nil
}

func fill[V any](ctx context.Context, g *errgroup.Group, store *bus.Store[V], all map[string]V, written *atomic.Int64) {
	for key, v := range all {
		g.Go(func() error {
			switch _, err := store.Create(ctx, key, v); {
			case errors.Is(err, bus.ErrConflict): // it is there, and newer
			case err != nil:
				return err
			default:
				written.Add(1)
			}
			return nil
		})
	}
}
