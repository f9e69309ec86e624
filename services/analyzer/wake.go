package analyzer

import (
	"context"
	"fmt"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

// wake judges again, at once, those that wait for what back says is well again,
// as the stream was told at stored; what lasts of them was to be announced
// minutes later. How many may be acted upon the guards say, as always: who is
// held back by them goes on waiting, for his next announcement. Nobody is woken
// twice, and who is overlooked is judged when he is announced.
func (a *analyzer) wake(ctx context.Context, j judge, back heal.Failure, stored time.Time) error {
	key := incident.Beside(back)
	if key == "" {
		return nil
	}
	board, err := a.book.Board(ctx, key)
	if err != nil {
		return fmt.Errorf("who waits for %s: %w", back.Target, err)
	}
	dependency, now := back.Affected().String(), time.Now()
	board, _ = board.Note(back, "", now) // which is written in a moment
	if board.Fails(dependency, now) {
		return nil // in another way
	}
	for _, key := range board.Waiters(now) {
		g, err := a.book.Group(ctx, key)
		if err != nil {
			return fmt.Errorf("who waits for %s: %w", dependency, err)
		}
		f, waits := g.Wake(dependency, stored, now)
		if !waits {
			continue
		}
		f.Envelope.ID = back.Envelope.ID
		around, err := a.around(ctx, f)
		if err != nil {
			return err
		}
		around.Namespace = board
		if err := a.decide(ctx, j, occasion{failure: f, announced: stored, around: around, woken: dependency}); err != nil {
			return fmt.Errorf("wake %s, as %s is back: %w", f.Affected(), dependency, err)
		}
	}
	return nil
}
