package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
)

// Exit codes.
const (
	exitOK       = 0
	exitError    = 1
	exitSettings = 2
	exitRefused  = 3
)

// Main runs s as a process: reads the settings, serves HTTP, calls s.Run with
// a context that ends on SIGINT or SIGTERM, and exits.
func Main(s Service) {
	os.Exit(s.main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

func (s Service) main(args, environ []string, stdout, stderr io.Writer) int {
	loader := config.Loader{Service: s.Name, Args: args, Environ: environ}
	settings, origins, err := config.Load(loader)
	switch {
	case errors.Is(err, config.ErrHelp):
		_, _ = fmt.Fprint(stdout, help(s))
		return exitOK
	case errors.Is(err, config.ErrVersion):
		_, _ = fmt.Fprintln(stdout, versionLine(s.Name))
		return exitOK
	case err != nil:
		_, _ = fmt.Fprintf(stderr, "%s: not started, because of its settings:\n  %s\nAll settings: %s --help\n",
			s.Name, strings.ReplaceAll(err.Error(), "\n", "\n  "), s.Name)
		return exitSettings
	}

	level := new(slog.LevelVar)
	level.Set(levelOf(settings))
	p := newProcess(s, slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level})))
	p.level = level
	slog.SetDefault(p.log) // for libraries that log by themselves
	release, revision := Version()
	p.log.Info("starting", "version", release, "revision", revision, "cluster", settings.Cluster, "mode", settings.Mode, "settings", chosen(origins))

	if p.service.LogTo != nil {
		p.service.LogTo(p.log)
	}
	err = p.withSignals(settings, loader, origins)
	code := exitCode(err)
	if code == exitOK {
		p.log.Info("stopped")
	} else {
		p.log.Error("stopped", "err", err, "exit_code", code)
	}
	return code
}

// withSignals runs until a signal comes, and reloads settings on the way.
func (p *process) withSignals(settings config.Settings, loader config.Loader, origins *config.Origins) error {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	ended := make(chan struct{})
	changes := make(chan config.Settings)

	var others sync.WaitGroup
	defer others.Wait()
	defer cancel()
	defer close(ended)
	others.Go(func() {
		select {
		case got := <-signals:
			p.log.Info("stopping; finishing what is under way", "signal", got.String(), "within", p.grace.String())
			cancel()
		case <-ended:
			return
		}
		select {
		case got := <-signals:
			p.log.Error("stopping at once, at the second signal", "signal", got.String(), "still_running", p.stage.Load())
			os.Exit(exitError)
		case <-ended:
		}
	})
	others.Go(func() { p.reload(ctx, loader, settings, origins, changes) })
	return p.run(ctx, settings, changes)
}

// reload sends new settings to changes when the files have valid ones.
func (p *process) reload(ctx context.Context, loader config.Loader, now config.Settings, since *config.Origins, changes chan<- config.Settings) {
	config.Watch(ctx, loader, since, func(next config.Settings, origins *config.Origins, err error) {
		if err != nil {
			p.reloaded.Set(0)
			p.log.Error("new settings are invalid; keeping the old ones", "err", err)
			return
		}
		p.reloaded.Set(1)
		keys := config.Changed(now, next)
		if len(keys) == 0 {
			return
		}
		p.log.Info("settings changed; starting again with the new ones", "keys", keys, "settings", chosen(origins))
		select {
		case changes <- next:
			now = next
		case <-ctx.Done():
		}
	})
}

// chosen is every setting that is not at its default, secrets as ***.
func chosen(origins *config.Origins) slog.Value {
	var attrs []slog.Attr
	for _, o := range origins.All() {
		if !strings.HasPrefix(o.From, "default") {
			attrs = append(attrs, slog.String(o.Key, o.Value))
		}
	}
	return slog.GroupValue(attrs...)
}

func exitCode(err error) int {
	var refused *refusal
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, config.ErrSettings):
		return exitSettings
	case errors.As(err, &refused), errors.Is(err, bus.ErrPermission):
		return exitRefused
	}
	return exitError
}

// help is the answer to --help.
func help(s Service) string {
	return fmt.Sprintf(`%[1]s: %[2]s

Usage: %[1]s [flags]

%[3]s
  --help, -h
        Print this.
  --version
        Print the version.

Changes of the settings' files are noticed while it runs: valid ones take effect
at once, invalid ones are logged and the old ones kept.
Traces are sent to OTEL_EXPORTER_OTLP_ENDPOINT, if that is set.

Endpoints at --http-addr:
  /health   also /livez, /healthz: 200 unless the process itself is stuck
  /ready    also /readyz: 200 or 503, and what is missing
  /metrics  Prometheus text and OpenMetrics, names begin with %[4]s
  /status   counts, CPU and memory as JSON

Exit codes:
  0  ended by SIGINT or SIGTERM, everything under way was finished
  1  an error, or not finished within 25 seconds
  2  the settings are wrong
  3  NATS refuses a right that the service needs
`, s.Name, s.Summary, config.Help(), heal.MetricPrefix)
}
