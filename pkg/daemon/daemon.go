// Package daemon is what the four services' processes have in common:
// settings, logs, health, metrics, traces, signals, and an orderly end. A
// service is one function, Run, which is given everything it needs and ends
// when its context does.
//
// Promised to a service: Run is never called twice at the same time. It may be
// called several times in one process, because new settings end it and start
// it again, each time with a Daemon, a bus and a metrics registry of its own;
// so a service registers its metrics in Run without asking whether it did so
// before. What is scraped is the process's own metrics and those of the
// present Run: counters start again from zero with new settings, as they do
// when a process is replaced.
//
// Promised to the outside: /health depends on nothing but the process; a
// dependency that is away makes /ready say so and is waited for; settings that
// cannot work end the process with exit code 2, missing rights with 3, every
// other error with 1; SIGTERM ends it within 25 seconds, with exit code 0 if
// everything under way was finished.
package daemon

import (
	"context"
	"log/slog"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
)

// A Service is one of the four stages, as its main and `selfheal up` start it.
type Service struct {
	Name    string // watcher, …
	Summary string // one sentence for --help

	// Run does the work until ctx is done, then finishes what is under way.
	// An error that is config.ErrSettings says that no restart can help.
	Run func(ctx context.Context, d *Daemon) error

	// LogTo tells the libraries that log by themselves where to, for the whole
	// process. Main calls it before anything runs; nil: there are none.
	LogTo func(*slog.Logger)
}

// A Daemon is the running process, handed to a service's Run.
type Daemon struct {
	Name     string
	Settings config.Settings
	Log      *slog.Logger
	Metrics  *prometheus.Registry // of this Run only
	Bus      *bus.Bus

	paused   prometheus.Gauge
	reloaded prometheus.Gauge
	api      *bus.API // nil in a Daemon made by a test

	mu     sync.Mutex // guards what follows
	checks []namedCheck
	status []func() map[string]any
}

type namedCheck struct {
	field string
	check func() error
}

// Check adds a field to /ready: "k8s_connection", "monitoring_active". While
// check returns an error the service is not ready, and the error is shown.
// A field that is there already is replaced.
func (d *Daemon) Check(field string, check func() error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.checks = slices.DeleteFunc(d.checks, func(c namedCheck) bool { return c.field == field })
	d.checks = append(d.checks, namedCheck{field, check})
}

// Status adds fields to /status, asked for at each request.
func (d *Daemon) Status(fields func() map[string]any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = append(d.status, fields)
}

// Answer adds something that the service can be asked for over NATS, for as
// long as Run runs. That it cannot be served is logged, and nothing else: no
// part of healing waits for a question.
func (d *Daemon) Answer(e bus.Endpoint) {
	if d.api == nil {
		return
	}
	if err := d.api.Add(e); err != nil {
		d.Log.Warn("cannot be asked over nats", "endpoint", e.Name, "err", err)
	}
}

// serveAPI makes the service known over NATS, with an endpoint of its own that
// says what /ready does.
func (d *Daemon) serveAPI(summary string) (done func()) {
	release, _ := Version()
	api, err := d.Bus.Serve(release, summary)
	if err != nil {
		d.Log.Warn("cannot be asked over nats", "err", err)
		return func() {}
	}
	d.api = api
	d.Answer(bus.Endpoint{Name: "ready", Summary: "Says whether the service can work, and what it lacks.", Answer: func(context.Context, []byte) (any, error) {
		body, _ := readiness(d.Ready())
		return body, nil
	}})
	return api.Close
}

// SetPaused shows in self_healing_paused whether a person paused all acting.
func (d *Daemon) SetPaused(paused bool) {
	if d.paused == nil {
		return // a Daemon made by a test
	}
	if paused {
		d.paused.Set(1)
	} else {
		d.paused.Set(0)
	}
}

// SetReloaded shows in self_healing_config_last_reload_successful whether a
// file of the service's own, which it read again, could be used.
func (d *Daemon) SetReloaded(ok bool) {
	if d.reloaded == nil {
		return // a Daemon made by a test
	}
	if ok {
		d.reloaded.Set(1)
	} else {
		d.reloaded.Set(0)
	}
}

// UserAgent is who we are to the API server: selfheal-watcher/v0.1.0.
func (d *Daemon) UserAgent() string {
	release, _ := Version()
	return "selfheal-" + d.Name + "/" + release
}

// Ready is what each check says, by field.
func (d *Daemon) Ready() map[string]error {
	d.mu.Lock()
	checks := slices.Clone(d.checks)
	d.mu.Unlock()
	said := make(map[string]error, len(checks))
	for _, c := range checks {
		said[c.field] = c.check()
	}
	return said
}

// fields is what the service adds to /status.
func (d *Daemon) fields() map[string]any {
	d.mu.Lock()
	status := slices.Clone(d.status)
	d.mu.Unlock()
	all := map[string]any{}
	for _, f := range status {
		for k, v := range f() {
			all[k] = v
		}
	}
	return all
}
