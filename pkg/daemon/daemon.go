// Package daemon is what the four services' processes have in common:
// settings, logs, health, metrics, traces, signals, and an orderly end.
package daemon

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
)

// A Service is one of the four stages, as its main and `selfheal up` start it.
type Service struct {
	Name    string // watcher, …
	Summary string // one sentence for --help
	Run     func(ctx context.Context, d *Daemon) error
}

// A Daemon is the running process, handed to a service's Run.
type Daemon struct {
	Name     string
	Settings config.Settings
	Log      *slog.Logger
	Metrics  *prometheus.Registry
	Bus      *bus.Bus
}

// Main runs s as a process: reads the settings, serves HTTP, calls s.Run with
// a context that ends on SIGINT or SIGTERM, and exits.
func Main(s Service) { panic("stub") }

// Run runs s inside this process with the given settings until ctx is done.
func Run(ctx context.Context, s Service, settings config.Settings, log *slog.Logger) error {
	panic("stub")
}

// Check adds a field to /ready: "k8s_connection", "monitoring_active". While
// check returns an error the service is not ready, and the error is shown.
func (d *Daemon) Check(field string, check func() error) { panic("stub") }

// Status adds fields to /status, asked for at each request.
func (d *Daemon) Status(fields func() map[string]any) { panic("stub") }
