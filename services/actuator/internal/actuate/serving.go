package actuate

import (
	"context"

	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// served notes how many pods of the workload that the facts are about each
// service sends requests to. It runs beside the first tries of a request, which
// must not wait for it: that a pod stops serving shows later than that. What
// cannot be read is not compared.
func served(ctx context.Context, r live.Reader, f guard.Facts, c *claim) {
	top, pods, found, err := r.PodsOfWorkload(ctx, f)
	if err != nil || !found {
		return
	}
	before, err := r.Serving(ctx, top.Namespace, pods)
	if err != nil || len(before) == 0 {
		return
	}
	s := verify.Serving{Workload: top.Target(), Selector: top.Selector, Before: before}
	c.note(func(rec *Record) { rec.Serving = &s })
}

// withServing makes a look at a recovery see as well that no service has lost
// endpoints by it.
func withServing(r live.Reader, c *claim, look func(context.Context) (verify.Sight, error)) func(context.Context) (verify.Sight, error) {
	return func(ctx context.Context) (verify.Sight, error) {
		sight, err := look(ctx)
		before := c.record().Serving
		if err != nil || sight.State != verify.Good || before == nil {
			return sight, err
		}
		s := *before
		owner, found, err := r.Owner(ctx, s.Workload)
		if err != nil || !found {
			return sight, err
		}
		pods, err := r.Pods(ctx, s.Workload.Namespace, s.Selector)
		if err != nil {
			return sight, err
		}
		s.Wanted = owner.Wanted
		if s.Now, err = r.Serving(ctx, s.Workload.Namespace, pods); err != nil {
			return sight, err
		}
		return s.Judge(sight), nil
	}
}
