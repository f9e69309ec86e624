package actuate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// A told is the last control that was sent.
type told struct {
	Control heal.Control `json:"control"`
	Stored  time.Time    `json:"stored"` // when the stream took it, which tells the order
	Written time.Time    `json:"written"`
}

// controlKey is where the last control is kept, as well as in its stream:
// either may be lost, or expire, and then a pause must not end by itself.
const controlKey = "shared.control"

// A Brake is what stops all acting at once: a control that a person sent, or a
// mark on the namespace that we run in. The first comes over the bus and is
// remembered, so it is obeyed within a moment and after a restart. The second
// is asked of the API server before each write, so it holds when the bus is
// broken, and whoever may annotate the namespace can always stop us.
type Brake struct {
	bus    *bus.Bus
	store  Store[told]
	reader live.Reader
	home   []string
	show   func(on bool) // told whenever that changes
	log    *slog.Logger

	mu     sync.Mutex // guards what follows
	known  bool       // the stream and the store were read
	last   told
	homes  []guard.Object // as they were last seen
	why    string         // what was last shown
	shown  bool
	change chan struct{} // holds one when a control came
}

func newBrake(b *bus.Bus, reader live.Reader, home []string, show func(bool), log *slog.Logger) *Brake {
	if show == nil {
		show = func(bool) {}
	}
	return &Brake{
		bus: b, store: bus.NewStore[told](b, bus.ActionsBucket), reader: reader, home: home, show: show, log: log,
		change: make(chan struct{}, 1),
	}
}

// Check asks both. It returns the tightest mode that they leave, or a
// *guard.Refusal, or a *action.Wait while it is not known yet whether acting is
// paused.
func (b *Brake) Check(ctx context.Context) (heal.Mode, error) {
	if err := b.paused(); err != nil {
		return heal.ModeOff, err
	}
	home, err := b.reader.Home(ctx, b.home)
	if apierrors.IsForbidden(err) {
		return heal.ModeOff, guard.Refuse(guard.Brake, guard.Veto("Forbidden", "the API server does not let us look whether acting is forbidden: %s", heal.Clean(err.Error(), heal.MaxText)))
	}
	if err != nil {
		return heal.ModeOff, fmt.Errorf("look whether acting is forbidden: %w", err)
	}
	mode, v := b.judge(time.Now(), home)
	if !v.Allowed() {
		return mode, guard.Refuse(guard.Brake, v)
	}
	return mode, nil
}

// paused is the half of Check that asks nobody.
func (b *Brake) paused() error {
	b.mu.Lock()
	known, control := b.known, b.last.Control
	b.mu.Unlock()
	if !known {
		return &action.Wait{For: time.Second, Refusal: guard.Refuse(guard.Brake, guard.Veto("PauseUnknown", "whether acting is paused could not be found out"))}
	}
	if _, v := guard.JudgeBrake(time.Now(), control, nil); !v.Allowed() {
		return guard.Refuse(guard.Brake, v)
	}
	return nil
}

// judge judges by what is known and home, and shows what came of it if that is
// news.
func (b *Brake) judge(now time.Time, home []guard.Object) (heal.Mode, guard.Verdict) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.homes = home
	mode, v := guard.JudgeBrake(now, b.last.Control, home)
	on := !v.Allowed()
	why := ""
	if on {
		why = v.Detail
	}
	if b.shown && why == b.why {
		return mode, v
	}
	b.shown, b.why = true, why
	b.show(on)
	switch {
	case on:
		b.log.Warn("nothing is changed any more", "reason", v.Reason, "detail", v.Detail)
	default:
		b.log.Info("acting is allowed", "mode", string(mode))
	}
	return mode, v
}

// on reports whether nothing may be changed, as far as is known.
func (b *Brake) on() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.known || b.why != ""
}

// look judges by what is known already.
func (b *Brake) look() {
	b.mu.Lock()
	home := b.homes
	b.mu.Unlock()
	b.judge(time.Now(), home)
}

// Keep listens for controls and looks after our namespaces until ctx is done.
func (b *Brake) Keep(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	current := make(chan struct{}, 1)
	tell := func(c chan struct{}) {
		select {
		case c <- struct{}{}:
		default: // it was told already
		}
	}
	g.Go(func() error {
		return bus.Controls.Follow(ctx, b.bus, bus.Follower[heal.Control]{
			Name: "actuator-control",
			Take: func(m bus.Message[heal.Control]) {
				if m.Data.Brakes() && b.take(told{Control: m.Data, Stored: m.Stored}) {
					b.look()
					tell(b.change)
				}
			},
			Current: func() { tell(current) },
		})
	})
	changed := make(chan struct{}, 1)
	for _, name := range b.home {
		g.Go(func() error {
			b.reader.FollowNamespace(ctx, name, changed)
			return nil
		})
	}
	g.Go(func() error {
		select {
		case <-current:
		case <-ctx.Done():
			return nil
		}
		b.remember(ctx)
		return nil
	})
	g.Go(func() error {
		for {
			select {
			case <-changed:
			case <-ctx.Done():
				return nil
			}
			// What cannot be read now is read before the next write.
			if home, err := b.reader.Home(ctx, b.home); err == nil {
				b.judge(time.Now(), home)
			}
		}
	})
	return g.Wait()
}

// take keeps a control if it is newer than the last, and reports whether it is.
func (b *Brake) take(t told) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !t.Stored.After(b.last.Stored) {
		return false
	}
	b.last = t
	return true
}

// remember keeps the last control in the store as well, and the store's if that
// is newer, until ctx is done. Acting begins when that was done once.
func (b *Brake) remember(ctx context.Context) {
	for {
		next := time.Second
		switch err := b.sync(ctx); {
		case ctx.Err() != nil:
			return
		case err == nil:
			next = b.untilNext(time.Now())
		default:
			b.log.Debug("the last control is not in the store yet", "err", err)
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-b.change:
		case <-ctx.Done():
		}
		timer.Stop()
		b.look() // a pause may have ended by itself
	}
}

// refresh is how often the store's copy is written anew, which expires else.
const refresh = 24 * time.Hour

// sync makes the store and what we know the same, by the newer of both.
func (b *Brake) sync(ctx context.Context) error {
	errSame := errors.New("it is in the store")
	err := change(ctx, b.store, controlKey, func(have told) (told, error) {
		b.take(have)
		b.mu.Lock()
		next := b.last
		b.mu.Unlock()
		now := time.Now().UTC()
		if next.Stored.Equal(have.Stored) && (next.Stored.IsZero() || now.Sub(have.Written) < refresh) {
			return have, errSame
		}
		next.Written = now
		return next, nil
	})
	if err != nil && !errors.Is(err, errSame) {
		return err
	}
	b.mu.Lock()
	first := !b.known
	b.known = true
	b.mu.Unlock()
	if first {
		b.look()
	}
	return nil
}

// untilNext is how long nothing happens by itself.
func (b *Brake) untilNext(now time.Time) time.Duration {
	const hourly = time.Hour
	b.mu.Lock()
	defer b.mu.Unlock()
	if c := b.last.Control; c.Verb == heal.Pause && c.Until.After(now) {
		return min(hourly, c.Until.Sub(now)+time.Millisecond)
	}
	return hourly
}
