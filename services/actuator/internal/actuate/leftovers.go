package actuate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// leftoverList is what stands that is only meant for a while, by its key.
type leftoverList map[string]action.Leftover

// Leftovers remembers what was changed only for as long as a decision is
// carried out, and takes it back when nobody works on that any more: its
// actuator died and no other went on, or acting was paused in between.
type Leftovers struct {
	store  Store[leftoverList]
	ledger ledger
	kube   kubernetes.Interface
	reader live.Reader
	brake  *Brake
	every  time.Duration
	log    *slog.Logger
}

// Add implements action.Leftovers.
func (s *Leftovers) Add(ctx context.Context, l action.Leftover) error {
	return change(ctx, s.store, leftoverKey, func(have leftoverList) (leftoverList, error) {
		next := leftoverList{}
		maps.Copy(next, have)
		next[l.Key()] = l
		return next, nil
	})
}

// Remove implements action.Leftovers.
func (s *Leftovers) Remove(ctx context.Context, l action.Leftover) error {
	have, _, err := s.store.Get(ctx, leftoverKey)
	if _, there := have[l.Key()]; isNotFound(err) || err == nil && !there {
		return nil
	}
	return change(ctx, s.store, leftoverKey, func(have leftoverList) (leftoverList, error) {
		next := maps.Clone(have)
		delete(next, l.Key())
		return next, nil
	})
}

// noLeftovers is the list of a dry run.
type noLeftovers struct{}

func (noLeftovers) Add(context.Context, action.Leftover) error    { return nil }
func (noLeftovers) Remove(context.Context, action.Leftover) error { return nil }

// Keep looks after the list until ctx is done.
func (s *Leftovers) Keep(ctx context.Context) error {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		if err := s.lookAfter(ctx); err != nil && ctx.Err() == nil && !isBraked(err) {
			s.log.Warn("cannot take back what was meant for a while, trying again", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

func (s *Leftovers) lookAfter(ctx context.Context) error {
	list, _, err := s.store.Get(ctx, leftoverKey)
	if isNotFound(err) || err == nil && len(list) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(list)) {
		// What cannot be taken back must not keep what comes after it.
		if err := s.takeBack(ctx, list[key]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	return errors.Join(errs...)
}

// takeBack takes one thing back, unless somebody is at work on its decision and
// does so himself.
func (s *Leftovers) takeBack(ctx context.Context, l action.Leftover) error {
	if alive, err := s.ledger.alive(ctx, l.Decision); alive || err != nil {
		return err
	}
	if _, err := s.brake.Check(ctx); err != nil {
		return err
	}
	err := action.TakeBack(ctx, s.kube, s.reader, l)
	if errors.Is(err, action.ErrNotYet) {
		return nil
	}
	if err != nil {
		return err
	}
	s.log.Info("taken back what was meant for a while", "what", l.Kind, "decision_id", l.Decision)
	return s.Remove(ctx, l)
}
