package book

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

// Spend has a decision paid from a rule's budget, which all analyzers share. It
// returns how much of it others have used; if that is all of it, nothing was
// paid. A decision that is paid already is not paid again.
func (b *Book) Spend(ctx context.Context, rule, decision string, now time.Time, limit int, per time.Duration) (used int, err error) {
	err = b.changePurse(ctx, rule, func(p incident.Purse) (incident.Purse, bool) {
		used = p.Used(decision, now, per)
		next, paid := p.Spend(decision, now, limit, per)
		return next, paid && len(next.Spent) > 0 && !same(p, next)
	})
	return used, err
}

// GiveBack undoes Spend, for a decision that does not act after all.
func (b *Book) GiveBack(ctx context.Context, rule, decision string) error {
	return b.changePurse(ctx, rule, func(p incident.Purse) (incident.Purse, bool) {
		next := p.GiveBack(decision)
		return next, !same(p, next)
	})
}

// Purse is what was spent of a rule's budget.
func (b *Book) Purse(ctx context.Context, rule string) (incident.Purse, error) {
	p, _, err := b.purses.Get(ctx, incident.PurseKey(rule))
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return p, fmt.Errorf("budget of rule %q: %w", rule, err)
	}
	return p, nil
}

func same(a, b incident.Purse) bool {
	return len(a.Spent) == len(b.Spent) && (len(a.Spent) == 0 || a.Spent[0] == b.Spent[0] && a.Spent[len(a.Spent)-1] == b.Spent[len(b.Spent)-1])
}

func (b *Book) changePurse(ctx context.Context, rule string, change func(incident.Purse) (incident.Purse, bool)) error {
	key := incident.PurseKey(rule)
	for {
		p, rev, err := b.purses.Get(ctx, key)
		if errors.Is(err, bus.ErrNotFound) {
			p, rev, err = incident.Purse{}, 0, nil
		}
		if err == nil {
			next, changed := change(p)
			if !changed {
				return nil
			}
			if rev == 0 {
				_, err = b.purses.Create(ctx, key, next)
			} else {
				_, err = b.purses.Update(ctx, key, next, rev)
			}
		}
		if err == nil {
			return nil
		}
		if !errors.Is(err, bus.ErrConflict) || ctx.Err() != nil {
			return fmt.Errorf("budget of rule %q: %w", rule, err)
		}
	}
}

// isPurse tells the keys of purses from those of groups.
func isPurse(key string) bool { return strings.HasPrefix(key, "p-") }
