package analyzer

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

// BenchmarkDecisions announces failures at a pace of its own and measures each
// from its being stored to its decision being stored, by the server's clock,
// with so many pods' failures on record: P16. At full speed it is the
// analyzer's share of P2; the reference stores a decision that is ready made.
func BenchmarkDecisions(b *testing.B) {
	for _, pods := range []int{1e3, 1e4, 1e5} {
		b.Run(fmt.Sprintf("pods=%d", pods), func(b *testing.B) { decisions(b, pods, 4, nil) })
	}
	b.Run("throughput", func(b *testing.B) { decisions(b, 1e4, 256, nil) })
	b.Run("throughput/reference", func(b *testing.B) {
		d, _ := NewReplay(ReplayConfig{Policy: mustBuiltin(b)}).Take(Recorded{At: noon, Failure: new(podFailure("a", "e", 1, noon))})
		decisions(b, 1e4, 256, &d)
	})
}

// decisions has workers announce a failure each at a time. With ready, what is
// told is that, under each failure's own id.
func decisions(b *testing.B, pods, workers int, ready *heal.Decision) {
	srv := bustest.Start(b)
	for _, owner := range []string{"analyzer", "actuator", "notifier"} {
		srv.Bus(b, owner)
	}
	watcher := srv.Bus(b, "watcher")
	stored := map[string]time.Time{}
	var took []time.Duration
	var mu sync.Mutex // guards both
	done := make(map[string]chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	run := func(what string, fn func() error) {
		running.Go(func() {
			if err := fn(); err != nil {
				b.Errorf("%s: %v", what, err)
			}
		})
	}
	defer running.Wait()
	defer cancel()
	own := srv.Bus(b, "analyzer")
	if ready == nil {
		run("analyzer", func() error { return Run(ctx, Config{}, Deps{Bus: own}) })
	} else {
		run("reference", func() error {
			return bus.Failures.Consume(ctx, own, bus.Consumer{Name: "analyzer", Workers: 16}, func(ctx context.Context, m bus.Message[heal.Failure]) error {
				d := *ready
				d.Failure, d.ID = m.Data, heal.MakeDecisionID(m.Data)
				return bus.Decisions.Publish(ctx, own, d)
			})
		})
	}
	seen := func(id string, at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if began, twice := stored[id]; twice {
			took = append(took, at.Sub(began).Abs())
			close(done[id])
			delete(stored, id)
			delete(done, id)
			return
		}
		stored[id] = at
	}
	run("failures", func() error {
		return bus.Failures.Consume(ctx, watcher, bus.Consumer{Name: "bench"}, func(_ context.Context, m bus.Message[heal.Failure]) error {
			seen(heal.MakeDecisionID(m.Data), m.Stored)
			return nil
		})
	})
	run("decisions", func() error {
		return bus.Decisions.Consume(ctx, watcher, bus.Consumer{Name: "bench"}, func(_ context.Context, m bus.Message[heal.Decision]) error {
			seen(m.Data.ID, m.Stored)
			return nil
		})
	})
	n := 0
	announce := func(count int) {
		next := make(chan heal.Failure)
		var announcing sync.WaitGroup
		for range workers {
			announcing.Go(func() {
				for f := range next {
					decided := make(chan struct{})
					mu.Lock()
					done[heal.MakeDecisionID(f)] = decided
					mu.Unlock()
					if err := bus.Failures.Publish(ctx, watcher, f); err != nil {
						b.Errorf("announce: %v", err)
						continue
					}
					<-decided
				}
			})
		}
		for range count {
			// 20 pods in an owner, as in a cluster of that size.
			f := podFailure(fmt.Sprint("app", n%max(1, pods/20)), fmt.Sprint("e", n), 1, time.Now())
			f.Namespace, f.Target.Namespace, f.Owner.Namespace = fmt.Sprint("team", n%50), fmt.Sprint("team", n%50), fmt.Sprint("team", n%50)
			f.Fingerprint = heal.MakeFingerprint(f.Type, f.Target, f.Owner, "api", f.Reason)
			f.Node = fmt.Sprint("n", n%max(1, pods/100))
			n++
			next <- f
		}
		close(next)
		announcing.Wait()
	}
	announce(pods / 100) // one in a hundred has failed before
	mu.Lock()
	took = nil
	mu.Unlock()
	b.ResetTimer()
	announce(b.N)
	b.StopTimer()
	slices.Sort(took)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
}
