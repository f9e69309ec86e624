package actuate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/pause"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// The keys of what all replicas share, in the bucket of the ledger.
const (
	windowKey = "shared.pods"
	slotKey   = "shared.node"
	cordonKey = "shared.cordons"

	leftoverKey = "shared.leftovers"

	targetKey   = "target."   // and the pod's UID
	rollbackKey = "rollback." // and the workload's UID
)

// A slot is whose turn it is to take a node out of service. It only spans the
// moment between looking for cordons and having one: a cordon itself is seen
// by everybody.
type slot struct {
	Decision string    `json:"decision"`
	Node     string    `json:"node"`
	At       time.Time `json:"at"`
}

// slotFor is for how long a slot keeps others out.
const slotFor = time.Minute

// spending takes from the budgets that all replicas share.
type spending struct {
	windows Store[guard.Window]
	slots   Store[slot]
	taken   Store[guard.Rollbacks]
	limits  guard.Limits
	turn    chan struct{} // one at a time from this process, or its workers outrun each other

	last guard.Window // as this process wrote it last; by turn
	rev  uint64       // of last; 0 for none
}

// pod takes one action on a pod.
func (s *spending) pod(ctx context.Context, namespace string) error {
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	take := func(w guard.Window) (guard.Window, error) {
		next, wait, v := w.Take(time.Now(), namespace, s.limits)
		if !v.Allowed() {
			// Not all of those that wait should come back at the same moment.
			wait += rand.N(wait/4 + time.Second)
			return w, &action.Wait{For: wait, Refusal: guard.Refuse("budget", v)}
		}
		return next, nil
	}
	// Others only take as well: what is too much with ours alone is too much,
	// and if they did not, the write meets what we know.
	next, err := take(s.last)
	if err != nil {
		return err
	}
	if s.rev > 0 {
		rev, err := s.windows.Update(ctx, windowKey, next, s.rev)
		if err == nil {
			s.last, s.rev = next, rev
			return nil
		}
		s.last, s.rev = guard.Window{}, 0
		if !errors.Is(err, bus.ErrConflict) {
			return err
		}
	}
	s.last, s.rev, err = replace(ctx, s.windows, windowKey, take)
	return err
}

// target takes, or keeps, a pod for one decision: two may be about it, by what
// two detectors saw or by the drain of its node, and the second would find it
// untouched until the first one's request has had its effect. After slotFor it
// is gone, or the first decision did not come to anything.
func (s *spending) target(ctx context.Context, decision, uid string) error {
	first := slot{Decision: decision, At: time.Now().UTC()}
	if _, err := s.slots.Create(ctx, targetKey+uid, first); !errors.Is(err, bus.ErrConflict) {
		return err // nearly always nobody has had it before
	}
	return change(ctx, s.slots, targetKey+uid, func(have slot) (slot, error) {
		now := time.Now()
		if age := now.Sub(have.At); have.Decision != decision && age < slotFor {
			return have, guard.Refuse("once", guard.Moot("AlreadyActedOn", "decision %s has acted on this very pod %s ago",
				heal.Clean(have.Decision, 32), age.Round(time.Millisecond)))
		}
		return slot{Decision: decision, At: now.UTC()}, nil
	})
}

// node takes, or keeps, the turn to take a node out of service.
func (s *spending) node(ctx context.Context, decision, node string) error {
	return change(ctx, s.slots, slotKey, func(have slot) (slot, error) {
		now := time.Now()
		if age := now.Sub(have.At); have.Node != node && age < slotFor {
			return have, &action.Wait{For: 10 * time.Second, Refusal: guard.Refuse("one_node", guard.Veto(guard.NodeBudget,
				"it is the turn of Node/%s (decision %s), and 1 node may be at a time", have.Node, heal.Clean(have.Decision, 32)))}
		}
		return slot{Decision: decision, Node: node, At: now.UTC()}, nil
	})
}

// freeNode gives the turn back, if it is still the decision's.
func (s *spending) freeNode(ctx context.Context, decision string) error {
	errNotOurs := errors.New("it is another's turn")
	err := change(ctx, s.slots, slotKey, func(have slot) (slot, error) {
		if have.Decision != decision {
			return have, errNotOurs
		}
		return slot{}, nil
	})
	if errors.Is(err, errNotOurs) {
		return nil
	}
	return err
}

// rollback takes the right to roll target back.
func (s *spending) rollback(ctx context.Context, decision string, target heal.Target, hash string) error {
	return change(ctx, s.taken, rollbackKey+target.UID, func(have guard.Rollbacks) (guard.Rollbacks, error) {
		next, v := have.Take(time.Now(), target, hash, decision)
		if !v.Allowed() {
			return have, guard.Refuse("rollback", v)
		}
		return next, nil
	})
}

// freeRollback gives back what was taken for a decision that did not come to it.
func (s *spending) freeRollback(ctx context.Context, decision string, target heal.Target) error {
	errNone := errors.New("none was taken")
	err := change(ctx, s.taken, rollbackKey+target.UID, func(have guard.Rollbacks) (guard.Rollbacks, error) {
		next := have.Without(decision)
		if len(next.Done) == len(have.Done) {
			return have, errNone
		}
		return next, nil
	})
	if errors.Is(err, errNone) {
		return nil
	}
	return err
}

// change replaces the value of a key by what next makes of it, or returns the
// error of next.
func change[V any](ctx context.Context, s Store[V], key string, next func(V) (V, error)) error {
	_, _, err := replace(ctx, s, key, next)
	return err
}

// replace is change, and returns what was written and its revision.
func replace[V any](ctx context.Context, s Store[V], key string, next func(V) (V, error)) (V, uint64, error) {
	var none V
	for range 50 {
		have, rev, err := s.Get(ctx, key)
		missing := errors.Is(err, bus.ErrNotFound)
		if err != nil && !missing {
			return none, 0, err
		}
		v, err := next(have)
		if err != nil {
			return none, 0, err
		}
		if missing {
			rev, err = s.Create(ctx, key, v)
		} else {
			rev, err = s.Update(ctx, key, v, rev)
		}
		if !errors.Is(err, bus.ErrConflict) {
			return v, rev, err
		}
		if !pause.For(ctx, rand.N(20*time.Millisecond)) {
			return none, 0, context.Cause(ctx)
		}
	}
	return none, 0, fmt.Errorf("write %s: others were quicker 50 times", key)
}
