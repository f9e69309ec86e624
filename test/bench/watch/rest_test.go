package watch

import (
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/selfheal/selfheal/test/bench/internal/request"
	"github.com/selfheal/selfheal/test/harness"
)

const (
	calm    = 15 * time.Second // after the start
	restFor = 60 * time.Second

	// begun is when even what a process does once, some time after its start,
	// is done; askedFor is how long requests are counted then, unless
	// $BENCH_IDLE says otherwise.
	begun    = 2 * time.Minute
	askedFor = 10 * time.Minute
)

// measureRest runs all binaries with their default settings while nothing
// happens, first each once, for the processor, then each twice, for requests.
func (b *bench) measureRest() {
	twice := slices.Clone(harness.Services)
	for _, s := range harness.Services {
		twice = append(twice, s+"#2")
	}
	place, err := b.cluster.log.End()
	if err != nil {
		b.Fatal(err)
	}
	p := harness.Prepare(b, b.cluster.kubeconfig, nil, twice...)
	defer p.NATS.Kill()
	for _, name := range twice {
		defer p.Kill(name)
	}
	for _, name := range harness.Services {
		p.Run(b, name)
	}
	for _, name := range harness.Services {
		b.ready(p, name, time.Now())
	}
	stock := b.reference("informer")
	b.until(stock, synced)
	defer stock.stop()
	pass(b.Context(), calm)

	r := &Rest{For: restFor, CPU: map[string]float64{}, Asked: span(b.B, "BENCH_IDLE", askedFor)}
	pids := map[string]int{"NATS": p.NATS.PID()}
	for _, name := range harness.Services {
		pids[name] = p.PID(name)
	}
	before := map[string]time.Duration{}
	for name, pid := range pids {
		before[name] = b.used(pid)
	}
	informer := b.used(stock.cmd.Process.Pid)
	began := time.Now()
	pass(b.Context(), restFor)
	took := time.Since(began)
	for name, pid := range pids {
		r.CPU[name] = (b.used(pid) - before[name]).Seconds() / took.Seconds()
	}
	r.Informer = (b.used(stock.cmd.Process.Pid) - informer).Seconds() / took.Seconds()

	for _, name := range harness.Services {
		p.Run(b, name+"#2")
	}
	for _, name := range twice {
		b.ready(p, name, time.Now())
	}
	pass(b.Context(), begun)
	from := time.Now()
	pass(b.Context(), r.Asked)
	to := time.Now()
	r.Requests = request.AtRest(b.asked(place, "selfheal-"), from, to)
	for _, what := range slices.Sorted(maps.Keys(r.Requests.Seen)) {
		say("%s: at rest: %d times %s", b.Measured, r.Requests.Seen[what], what)
	}
	r.Stock = request.AtRest(b.asked(place, "reference-informer/"), from, to)
	b.Rest = r
	b.notePeak(p)
}

// span is a duration that the environment may choose.
func span(b *testing.B, name string, otherwise time.Duration) time.Duration {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		b.Fatalf("%s is %q, want a duration such as 10m", name, text)
	}
	return d
}
