package actuate

import (
	"context"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// A glance is a look at the cluster that began while the decision was being
// claimed: the claim waits for a disk, and the look for the API server.
type glance struct {
	began  time.Time
	cancel func()
	done   chan struct{}

	// When done:
	mode  heal.Mode
	facts guard.Facts
	err   error
}

// glance begins one, unless the decision would be refused unread. A decision
// that comes again is mostly over, or in other hands, and not looked at before
// it is ours.
func (a *Actuator) glance(ctx context.Context, m bus.Message[heal.Decision]) *glance {
	_, refusal := action.Find(action.Default, m.Data)
	if refusal != nil || m.Attempt > 1 || a.Brake.paused() != nil || timely(time.Now(), m.Time, a.expires(m, Record{}), "") != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(ctx)
	g := &glance{began: time.Now(), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(g.done)
		g.mode, g.facts, g.err = look(ctx, a.Brake, a.reader, m.Data)
	}()
	return g
}

// seen waits for the glance, and reports whether it has seen all.
func (g *glance) seen(ctx context.Context) bool {
	if g == nil {
		return false
	}
	select {
	case <-g.done:
		return g.err == nil
	case <-ctx.Done():
		return false
	}
}

// stop ends the glance, and waits for that.
func (g *glance) stop() {
	if g != nil {
		g.cancel()
		<-g.done
	}
}

// look asks at the same time whether acting is forbidden, and what is true of
// the decision's target. The first comes first, if it is.
func look(ctx context.Context, b *Brake, r live.Reader, d heal.Decision) (heal.Mode, guard.Facts, error) {
	if err := b.paused(); err != nil {
		return heal.ModeOff, guard.Facts{}, err
	}
	ctx, end := span(ctx, "look")
	defer end()
	var mode heal.Mode
	var forbidden error
	var asked sync.WaitGroup
	asked.Go(func() { mode, forbidden = b.Check(ctx) })
	facts, err := r.Facts(ctx, d, d.Target)
	asked.Wait()
	switch {
	case forbidden != nil:
		return mode, facts, forbidden
	case apierrors.IsForbidden(err):
		return mode, facts, guard.Refuse("api_server", guard.Veto("Forbidden", "the API server does not let us look: %s", heal.Clean(err.Error(), heal.MaxText)))
	}
	return mode, facts, err
}
