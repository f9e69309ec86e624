package watch

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/test/harness"
)

const (
	stormPods   = 10_000
	stormQuiet  = 3 * time.Second // without a further message: it is over
	oraclesBusy = 64              // messages in flight
)

// measureStorm has pods fail as fast as etcd takes their statuses, and counts
// what the watcher makes of it. Then a client that does nothing else stores
// the same messages.
func (b *bench) measureStorm() {
	p := harness.Prepare(b, b.cluster.kubeconfig, settings, "watcher")
	defer p.NATS.Kill()
	defer p.Kill("watcher")
	p.Run(b, "watcher")
	b.ready(p, "watcher", time.Now())
	h, stop := listen(b.B, p.Bus(b))
	defer stop()
	pass(b.Context(), settled)
	quiet := h.count()
	used := b.used(p.PID("watcher"))

	out := run(b.B, filepath.Join(harness.RepositoryRoot(b), "bin", "devcluster"), "break", "--dir", b.cluster.dir,
		"--pods", strconv.Itoa(b.Pods), "--nodes", strconv.Itoa(b.Nodes), "--count", strconv.Itoa(stormPods))
	var broken struct{ First, Last time.Time }
	if err := json.Unmarshal(out, &broken); err != nil {
		b.Fatalf("break said %q: %v", out, err)
	}
	n, since := 0, time.Now()
	upTo(b.Context(), stormWithin, func() bool {
		if now := h.count() - quiet; now != n {
			n, since = now, time.Now()
		}
		// More than there should be are counted too, if they come soon.
		return time.Since(since) > stormQuiet && (n >= stormPods || time.Since(since) > 30*time.Second)
	})
	s := &Storm{Pods: stormPods, Broken: broken.Last.Sub(broken.First), Peak: p.PeakRSS("watcher"), CPU: (b.used(p.PID("watcher")) - used) / stormPods}
	var messages []bus.Raw
	last := broken.Last
	for _, list := range h.announced() {
		var fresh int
		for _, m := range list {
			if m.Time.After(broken.First) {
				fresh++
				messages = append(messages, m)
				if m.Time.After(last) {
					last = m.Time
				}
			}
		}
		s.Doubled += max(0, fresh-1)
	}
	s.Lost = stormPods - (len(messages) - s.Doubled)
	s.Published, s.After = last.Sub(broken.First), last.Sub(broken.Last)
	if len(messages) > 0 {
		s.Oracle = b.store(messages)
	}
	b.Storm = s
}

// store is how long a bare client takes to store messages in streams like
// ours, on a server like ours.
func (b *bench) store(messages []bus.Raw) time.Duration {
	b.Helper()
	server := harness.StartNATS(b)
	defer server.Kill()
	own, err := bus.Connect(bus.Options{URL: server.URL, Service: "test", Cluster: "test"})
	if err != nil {
		b.Fatal(err)
	}
	defer own.Close()
	if err := own.Provision(b.Context()); err != nil {
		b.Fatal(err)
	}
	nc, err := nats.Connect(server.URL)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	next := make(chan bus.Raw)
	var wg sync.WaitGroup
	began := time.Now()
	for range oraclesBusy {
		wg.Go(func() {
			for m := range next {
				m.Header = maps.Clone(m.Header)
				maps.DeleteFunc(m.Header, func(name string, _ []string) bool { return strings.HasPrefix(name, "Nats-Batch-") }) // of the batch it came in
				if _, err := js.PublishMsg(b.Context(), &nats.Msg{Subject: m.Subject, Header: m.Header, Data: m.Data}); err != nil {
					b.Errorf("the bare client: %v", err)
				}
			}
		})
	}
	for _, m := range messages {
		next <- m
	}
	close(next)
	wg.Wait()
	return time.Since(began)
}
