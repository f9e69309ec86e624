package bus_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

// BenchmarkPublish stores messages on a server that forces each write to its
// disk, and on one that does so every two minutes, as NATS does by default.
func BenchmarkPublish(b *testing.B) {
	for _, sync := range []bool{true, false} {
		for _, publishers := range []int{1, 8, 64, 512} {
			b.Run(fmt.Sprintf("sync=%t/publishers=%d", sync, publishers), func(b *testing.B) {
				c := bustest.Configure(b, server.Options{SyncAlways: sync}).Bus(b, "watcher")
				publish(b, c, publishers, b.N)
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
			})
		}
	}
}

// publish stores n failures, by so many goroutines at once.
func publish(b *testing.B, c *bus.Bus, publishers, n int) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	b.ResetTimer()
	for range publishers {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				if err := bus.Failures.Publish(b.Context(), c, failure(fmt.Sprintf("pod-%d", i))); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkRecordAndPublish is what a watcher does about each failure of a
// storm: a record, a message, and a note in the record, one after the other,
// for as many failures at once as it has workers.
func BenchmarkRecordAndPublish(b *testing.B) {
	for _, workers := range []int{8, 64, 256, 1024} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			c := bustest.Configure(b, server.Options{SyncAlways: true}).Bus(b, "watcher")
			records := bus.NewStore[heal.Failure](c, bus.EpisodesBucket)
			var next atomic.Int64
			var wg sync.WaitGroup
			b.ResetTimer()
			for range workers {
				wg.Go(func() {
					for i := int(next.Add(1)); i <= b.N; i = int(next.Add(1)) {
						key, f := fmt.Sprintf("e-%d", i), failure(fmt.Sprintf("pod-%d", i))
						rev, err := records.Create(b.Context(), key, f)
						if err == nil {
							err = bus.Failures.Publish(b.Context(), c, f)
						}
						if err == nil {
							_, err = records.Update(b.Context(), key, f, rev)
						}
						if err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "failures/s")
		})
	}
}

func BenchmarkConsume(b *testing.B) {
	for _, workers := range []int{1, 8, 64} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			c := bustest.New(b)
			publish(b, c, 64, b.N)
			ctx, cancel := context.WithCancel(b.Context())
			defer cancel()
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ResetTimer()
			err := bus.Failures.Consume(ctx, c, bus.Consumer{Name: "bench", Workers: workers}, func(context.Context, bus.Message[heal.Failure]) error {
				if left.Add(-1) == 0 {
					cancel()
				}
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
}
