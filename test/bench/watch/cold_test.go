package watch

import (
	"net/http"
	"time"

	"github.com/selfheal/selfheal/test/bench/internal/process"
	"github.com/selfheal/selfheal/test/bench/internal/request"
	"github.com/selfheal/selfheal/test/harness"
)

const (
	coldRounds = 3
	settled    = 3 * time.Second // after being ready: what is done once, such as giving memory back, is done
)

// measureCold starts watcher, discarder and informers in turn. A first start
// of the watcher is not counted: it shows what there is to read, and lets the
// API server warm up.
func (b *bench) measureCold() {
	_, uris := b.coldStart()
	c := &Cold{Requests: len(uris)}
	for range coldRounds {
		p := b.reference(append([]string{"discard"}, uris...)...)
		took, s := b.until(p, synced)
		p.stop()
		c.Discarder, c.Bytes = append(c.Discarder, took), s.Bytes

		took, _ = b.coldStart()
		c.Watcher = append(c.Watcher, took)

		p = b.reference("informer")
		took, _ = b.until(p, synced)
		pass(b.Context(), settled)
		b.noteReferencePeak(p)
		p.stop()
		c.Informer = append(c.Informer, took)
	}
	b.Cold = c
}

// coldStart starts a watcher with an empty store, and returns how long it
// took to be ready, and what it read for that.
func (b *bench) coldStart() (time.Duration, []string) {
	p := harness.Prepare(b, b.cluster.kubeconfig, settings, "watcher")
	defer p.NATS.Kill()
	defer p.Kill("watcher")
	place, err := b.cluster.log.End()
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	p.Run(b, "watcher")
	took := b.ready(p, "watcher", began)
	pass(b.Context(), settled)
	b.notePeak(p)
	return took, request.Everything(b.asked(place, "selfheal-watcher/"))
}

func (b *bench) asked(place int64, userAgent string) []request.Request {
	b.Helper()
	requests, err := b.cluster.log.Since(place, userAgent)
	if err != nil {
		b.Fatal(err)
	}
	return requests
}

// ready waits until a service says that it is, and returns how long after began that was.
func (b *bench) ready(p *harness.Pipeline, name string, began time.Time) time.Duration {
	b.Helper()
	client := http.Client{Timeout: time.Second}
	defer client.CloseIdleConnections()
	is := func() bool {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://"+p.Addr(name)+"/ready", nil)
		if err != nil {
			b.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			if _, ended := process.RSS(p.PID(name)); ended != nil {
				b.Fatalf("%s ended: %v", name, ended)
			}
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	if !upTo(b.Context(), 5*time.Minute, is) {
		b.Fatalf("%s is not ready", name)
	}
	return time.Since(began)
}

func (b *bench) noteReferencePeak(p *child) {
	b.Helper()
	m, err := process.RSS(p.cmd.Process.Pid)
	if err != nil {
		b.Fatal(err)
	}
	b.ReferencePeak = max(b.ReferencePeak, m.Peak)
}
