package watch

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/test/bench/internal/figure"
	"github.com/selfheal/selfheal/test/bench/internal/request"
)

func ms(n ...int) figure.Times {
	var t figure.Times
	for _, v := range n {
		t = append(t, time.Duration(v)*time.Millisecond)
	}
	return t
}

func full(pods int, peak int64) Measured {
	return Measured{
		Size: Size{Pods: pods, Nodes: pods / 20}, Peak: peak, ReferencePeak: 20 * peak,
		Cold:  &Cold{Watcher: ms(120), Discarder: ms(100), Informer: ms(300), Bytes: 5 << 20, Requests: 3},
		Warm:  &Warm{Published: ms(80), Decided: ms(90), Informer: 300 * time.Millisecond},
		React: &React{Published: ms(3, 4, 5), Decided: ms(9, 10, 11)},
		Event: &Event{Events: 2000, Rate: 200, Watcher: 20 * time.Microsecond, Informer: 60 * time.Microsecond},
	}
}

func TestEveryFigureHasARowAndSaysWhatItIsMeasuredAgainst(t *testing.T) {
	small, large := full(1000, 30<<20), full(100_000, 50<<20)
	small.Rest = &Rest{
		For: time.Minute, CPU: map[string]float64{"watcher": 0.01, "NATS": 0.005}, Informer: 0.003, Asked: 2 * time.Minute,
		Requests: request.Rest{PerHour: 30, Watches: 10, ByAgent: map[string]float64{"selfheal-watcher": 30}}, Stock: request.Rest{PerHour: 24},
	}
	small.Storm = &Storm{Pods: 10_000, Broken: time.Second, Published: 4 * time.Second, After: 3 * time.Second, Doubled: 1, Peak: 60 << 20, CPU: 700 * time.Microsecond, Oracle: 2 * time.Second}
	small.Limits = []Limits{{
		Together: true, For: 2 * time.Minute, Wrote: ms(50, 60, 110), CPU: map[string]float64{"watcher": 0.01, "NATS": 0.02}, Waited: map[string]float64{"all": 0.05},
		Peak: map[string]int64{"watcher": 50 << 20, "NATS": 60 << 20}, Storm: 1000, Decided: 20 * time.Second, Late: 1, Acted: 5,
	}, {Free: "read-only file system", For: time.Minute, Wrote: ms(50), Storm: 1000, Decided: 10 * time.Second}}
	got := figure.Table(Rows([]Measured{large, small}, []Alloc{{Name: "Glance", Time: 900, Bytes: 160, Allocs: 8}}))
	want := strings.Join([]string{
		"| | size | measured | reference in the same run | asked for | reached |",
		"|---|---|---|---|---|---|",
		"| P1's share: status seen by a watch of the benchmark's own → failure stored | 1k pods | median 4.00 ms, 99 % 5.00 ms of 3; 0 missed | the watch itself | of P1's 5 and 25 ms | yes |",
		"| P1's share: status seen by a watch of the benchmark's own → failure stored | 100k pods | median 4.00 ms, 99 % 5.00 ms of 3; 0 missed | the watch itself | of P1's 5 and 25 ms | yes |",
		"| P7 watcher's peak resident memory, cold start included | 1k pods | 30.0 MiB | stock informers 600 MiB: 20.0 times | ≤ 64 MiB | yes |",
		"| P7 watcher's peak resident memory, cold start included | 100k pods | 50.0 MiB | stock informers 1,000 MiB: 20.0 times | ≤ 64 MiB | yes |",
		"| P8 growth of that | 1k pods → 100k pods | 20.0 MiB | stock informers 400 MiB | ≤ 16 MiB | **no** |",
		"| P9 cold start to ready, median | 1k pods | 120 ms | reading and discarding the same 5.00 MiB behind 3 requests 100 ms: 1.20 times; stock informers (3 kinds) 300 ms | ≤ 1.3 times, at 100k | – |",
		"| P9 cold start to ready, median | 100k pods | 120 ms | reading and discarding the same 5.00 MiB behind 3 requests 100 ms: 1.20 times; stock informers (3 kinds) 300 ms | ≤ 1.3 times, at 100k | yes |",
		"| P10 warm restart: process started → first decision stored | 1k pods | median 90.0 ms, worst 90.0 ms of 1 (failure stored after 80.0 ms); 0 missed; all pods read 0 times, all of a smaller kind 0 times each | stock informers, started then, see it after 300 ms | ≤ 500 ms, no list of pods, none missed | yes |",
		"| P10 warm restart: process started → first decision stored | 100k pods | median 90.0 ms, worst 90.0 ms of 1 (failure stored after 80.0 ms); 0 missed; all pods read 0 times, all of a smaller kind 0 times each | stock informers, started then, see it after 300 ms | ≤ 500 ms, no list of pods, none missed | yes |",
		"| P11 API requests per hour at rest, all binaries, two of each | 1k pods | 30.0 (watcher 30.0); 0 writes, 0 lists; extrapolated: seen for 2m0s, the 10 open watches by their own timeouts | one stock informer program (3 kinds) 24.0; a leader-election lease renewed every 2 s: 1,800 | ≤ 60, no writes, no lists | yes |",
		"| P13 CPU at rest over 1m0s, four binaries and NATS, with the heartbeats of 50 nodes | 1k pods | 1.50 % of a core (NATS 0.50 %, watcher 1.00 %) | one stock informer program 0.30 % | ≤ 2 % | yes |",
		"| P16 watcher's CPU per status update of a healthy pod | 1k pods | 20.0 µs over 2,000 updates at 200/s | stock informers 60.0 µs | – | – |",
		"| P16 status seen → decision stored | 1k pods | median 10.0 ms, 99 % 11.0 ms of 3 | the watch itself | – | – |",
		"| P16 watcher's CPU per status update of a healthy pod | 100k pods | 20.0 µs over 2,000 updates at 200/s | stock informers 60.0 µs | – | – |",
		"| P16 status seen → decision stored | 100k pods | median 10.0 ms, 99 % 11.0 ms of 3 | the watch itself | – | – |",
		"| P16 that CPU per event, from size to size | 1k pods … 100k pods | within ± 0 % of their mean | – | ± 20 % | yes |",
		"| P16 that 99 % of decisions, from size to size | 1k pods … 100k pods | within ± 0 % of their mean | – | ± 20 % | yes |",
		"| storm: 10,000 pods fail within 1.00 s | 1k pods | last failure stored 3.00 s after the last status, 2,500/s from the first one on; 0 lost, 1 doubled; watcher's peak 60.0 MiB, its CPU for each 700 µs | a bare client storing the same messages 5,000/s (2.00 times) | none lost, none doubled | **no** |",
		"| P21 all four and NATS in 256 MiB and 0.2 of a core together, one failure a second for 2m0s: failure seen → eviction seen | 1k pods | median 60.0 ms, 99 % 110 ms of 3; 0 missed; held to it by control groups, waited in 5.00 % of the periods of 0.1 s at most, 0 killed for want of memory; resident memory at most and processor time: NATS 60.0 MiB and 2.00 %, watcher 50.0 MiB and 1.00 %; together 110 MiB and 3.00 % | the watch itself | 99 % ≤ 100 ms, none missed | **no** |",
		"| P21 then 1,000 pods fail at once | 1k pods | last decision 20.0 s after the first status; 1 without one after 3m0s; 5 evicted by then | – | a decision for each | **no** |",
		"| P21 each service in 256 MiB and 0.2 of a core, one failure a second for 1m0s: failure seen → eviction seen | 1k pods | median 50.0 ms, 99 % 50.0 ms of 1; 0 missed; not held to it (read-only file system); resident memory at most and processor time: ; together 0 MiB and 0 % | the watch itself | 99 % ≤ 100 ms, none missed | – |",
		"| P21 then 1,000 pods fail at once | 1k pods | last decision 10.0 s after the first status; 0 without one after 3m0s; 0 evicted by then | – | a decision for each | yes |",
		"| allocations: `Glance` | – | 8, 160 B, 0.90 µs | the `Typed` line, where there is one | – | – |",
		"",
	}, "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatWasNotMeasuredHasNoRow(t *testing.T) {
	if got := Rows([]Measured{{Size: Size{Pods: 1000}}}, nil); len(got) != 0 {
		t.Errorf("got %v", got)
	}
}

func TestARestartThatListsOrMissesIsNotWhatWasAskedFor(t *testing.T) {
	for _, test := range []struct {
		name string
		warm Warm
		want figure.Verdict
	}{
		{"good", Warm{Decided: ms(400)}, figure.Yes},
		{"slow", Warm{Decided: ms(501)}, figure.No},
		{"reads what is few anew", Warm{Decided: ms(400), Small: 21}, figure.Yes},
		{"lists", Warm{Decided: ms(400), Pods: 1}, figure.No},
		{"misses", Warm{Decided: ms(400), Missed: 1}, figure.No},
		{"nothing came", Warm{}, figure.No},
	} {
		if got := warm(Measured{Warm: &test.warm})[0].Reached; got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
}

func TestAllocationsAreReadFromGoTestsOutput(t *testing.T) {
	got := ParseAllocs(strings.Join([]string{
		"goos: linux",
		"BenchmarkGlance-2   \t 1000000\t       901.5 ns/op\t     160 B/op\t       8 allocs/op",
		"BenchmarkDecode/typed-2 \t 80000\t 12000 ns/op\t 512.2 MB/s\t 10240 B/op\t 141 allocs/op",
		"BenchmarkNoMem-2 \t 80000\t 12000 ns/op",
		"PASS",
	}, "\n"))
	want := []Alloc{
		{Name: "Glance", Time: 901, Bytes: 160, Allocs: 8},
		{Name: "Decode/typed", Time: 12000, Bytes: 10240, Allocs: 141},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
