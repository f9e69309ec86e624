package analyzer

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

// BenchmarkRebuild folds recorded failures and their decisions into a memory,
// without the streams that they come from: of one Deployment, and of many.
func BenchmarkRebuild(b *testing.B) {
	const n = 20_000
	for _, owners := range []int{1, n / 50} {
		b.Run(fmt.Sprintf("failures=%d/owners=%d", n, owners), func(b *testing.B) {
			records := recorded(b, n, owners)
			j := testJudge(b, heal.ModeAuto)
			b.ReportAllocs()
			for b.Loop() {
				m := newMemory(j)
				for _, r := range records {
					recollect(r)(m)
				}
				if c := m.contents(time.Now()); len(c.Groups) != owners {
					b.Fatalf("%d groups, want %d", len(c.Groups), owners)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(records)), "µs/message")
		})
	}
}

// recorded are failures and the decisions about them, as their streams hold them.
func recorded(b *testing.B, n, owners int) []bus.Raw {
	b.Helper()
	replay, began := NewReplay(ReplayConfig{Policy: mustBuiltin(b)}), time.Now().Add(-time.Duration(n)*time.Millisecond)
	var all []bus.Raw
	add := func(stream string, at time.Time, event any) {
		body, err := json.Marshal(event)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, bus.Raw{Stream: stream, Time: at, Data: body})
	}
	for i := range n {
		at := began.Add(time.Duration(i) * time.Millisecond)
		f := podFailure(fmt.Sprint("app", i%owners), fmt.Sprint("e", i), 1, at)
		f.Node = fmt.Sprint("n", i%500)
		d, made := replay.Take(Recorded{At: at, Failure: &f})
		if !made {
			b.Fatalf("failure %d is not decided", i)
		}
		add(bus.Failures.Stream, at, heal.NewEvent(f, bustest.Cluster, "watcher", at))
		add(bus.Decisions.Stream, at, heal.NewEvent(d, bustest.Cluster, "analyzer", at))
	}
	return all
}
