package notifier

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/double"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
)

// How many news of incidents the first hop takes in a second, when so many have
// piled up: a decision and a result of each.
func BenchmarkNewsThatPiledUp(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		slack, pager := double.NewSlack(b, time.Second), double.NewPagerDuty(b)
		r := start(b, talking(slack, pager))
		until(b, "listening", func() bool { return r.listens() == nil })
		r.stop() // its consumers are there, and know that nothing is history
		var g errgroup.Group
		g.SetLimit(64)
		for i := range *incidents {
			g.Go(func() error {
				d := sample.At(heal.High, fmt.Sprint(i)).Decision
				return errors.Join(bus.Decisions.Publish(b.Context(), r.bus, d), bus.Results.Publish(b.Context(), r.bus, ended(d, heal.Failed)))
			})
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		r.metrics = prometheus.NewRegistry()
		b.StartTimer()
		begun := time.Now()
		r.again(b, talking(slack, pager))
		within(b, 10*time.Minute, "all is heard", func() bool { return r.unheard(b) == 0 })
		b.ReportMetric(float64(2**incidents)/time.Since(begun).Seconds(), "news/s")
		b.StopTimer()
		r.stop()
		b.StartTimer()
	}
}

// unheard is what the first hop's consumers have not done with.
func (r *run) unheard(t testing.TB) (n uint64) {
	t.Helper()
	all, err := r.bus.Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all.Streams {
		for _, c := range s.Consumers {
			if c.Name == Name || c.Name == Name+"-decisions" {
				n += c.Pending + uint64(c.AckPending)
			}
		}
	}
	return n
}
