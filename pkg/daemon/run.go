package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
)

// grace is how long an orderly end may take in all; Kubernetes kills after 30 s.
const grace = 25 * time.Second

// A process is what lives through all Runs of a service.
type process struct {
	service Service
	log     *slog.Logger
	level   *slog.LevelVar // nil if the log is somebody else's
	grace   time.Duration
	started time.Time

	metrics  *prometheus.Registry
	paused   prometheus.Gauge
	reloaded prometheus.Gauge
	cpu      *cpuMeter

	beat    atomic.Pointer[time.Time]
	current atomic.Pointer[Daemon]
	stage   atomic.Value // string: what an orderly end waits for
	serving sync.WaitGroup
	until   time.Time // when an orderly end must be over; zero while none is under way
}

// Run runs s inside this process with the given settings until ctx is done:
// with HTTP if the settings have an address, but without flags, signals,
// reloads and os.Exit. It returns within 25 seconds after ctx is done, with an
// error that names what was still running if that was not enough.
func Run(ctx context.Context, s Service, settings config.Settings, log *slog.Logger) error {
	return newProcess(s, log).run(ctx, settings, nil)
}

func newProcess(s Service, log *slog.Logger) *process {
	p := &process{
		service: s,
		log:     slog.New(LogHandler(log.Handler())).With("service", s.Name),
		grace:   grace,
		started: time.Now(),
		metrics: prometheus.NewRegistry(),
		paused: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: heal.MetricPrefix + "paused", Help: "1 while a person has paused all acting.",
		}),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: heal.MetricPrefix + "config_last_reload_successful", Help: "0 while the settings files hold something invalid and the settings before are kept.",
		}),
		cpu: newCPUMeter(),
	}
	release, revision := Version()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: heal.MetricPrefix + "build_info", Help: "Always 1; the labels say what is running.",
		ConstLabels: prometheus.Labels{"version": release, "revision": revision, "goversion": runtime.Version()},
	})
	info.Set(1)
	p.reloaded.Set(1)
	p.metrics.MustRegister(p.paused, p.reloaded, info,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	p.beatNow()
	return p
}

func (p *process) beatNow() {
	now := time.Now()
	p.beat.Store(&now)
}

// gatherer is the process's own metrics and those of the present Run.
func (p *process) gatherer() prometheus.Gatherer {
	return prometheus.Gatherers{p.metrics, prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		if d := p.current.Load(); d != nil {
			return d.Metrics.Gather()
		}
		return nil, nil
	})}
}

// run is the life of the process: a Run with the settings, and another one
// whenever there are new ones.
func (p *process) run(ctx context.Context, settings config.Settings, changes <-chan config.Settings) error {
	alive, dead := context.WithCancel(context.WithoutCancel(ctx))
	var beating sync.WaitGroup
	beating.Go(func() { p.beatEverySecond(alive) })
	defer beating.Wait()
	defer dead()

	flush, err := startTracing(ctx, p.service.Name, p.log)
	if err != nil {
		return config.Invalid(fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT: %w", err))
	}
	srv, err := p.listen(ctx, settings.HTTPAddr)
	if err != nil {
		return err
	}
	defer p.serving.Wait()
	defer func() { p.stop(srv) }()

	var before *config.Settings // those that worked, while new ones have to prove themselves
	for {
		next, again, err := p.untilChange(ctx, settings, changes)
		if !again && before != nil && errors.Is(err, config.ErrSettings) {
			p.log.Error("the service refuses the new settings; starting again with the old ones", "err", err)
			p.reloaded.Set(0)
			next, again, before = *before, true, nil
		} else {
			old := settings
			before = &old
		}
		if !again {
			last, cancel := p.atMost(2 * time.Second)
			defer cancel()
			flush(last)
			return err
		}
		if next.HTTPAddr != settings.HTTPAddr {
			srv = p.move(ctx, srv, next.HTTPAddr)
		}
		settings = next
	}
}

// untilChange does one Run. It returns the settings for another one, or how
// this one ended.
func (p *process) untilChange(ctx context.Context, settings config.Settings, changes <-chan config.Settings) (next config.Settings, again bool, err error) {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- p.once(running, settings) }()

	select {
	case err := <-ended:
		return next, false, err
	case <-ctx.Done():
	case next = <-changes:
		again = true
		cancel()
	}
	p.until = time.Now().Add(p.grace)
	patience := time.NewTimer(p.grace)
	defer patience.Stop()
	select {
	case err := <-ended:
		if again && err == nil {
			p.until = time.Time{}
			return next, true, nil
		}
		return next, false, err
	case <-patience.C:
		// The goroutine cannot be ended; the process is about to.
		return next, false, fmt.Errorf("still running after %s: %s", p.grace, p.stage.Load())
	}
}

// once connects the bus, runs the service and takes both down again.
func (p *process) once(ctx context.Context, settings config.Settings) error {
	log := p.log.With("cluster", settings.Cluster)
	if p.level != nil {
		p.level.Set(levelOf(settings))
	}
	d := &Daemon{Name: p.service.Name, Settings: settings, Log: log, Metrics: prometheus.NewRegistry(), paused: p.paused, reloaded: p.reloaded}
	b, err := bus.Connect(bus.Options{
		URL: settings.NATSURL, Service: p.service.Name, Cluster: settings.Cluster,
		CredsFile: settings.NATSCreds, NKeyFile: settings.NATSNKey, Log: log, Metrics: d.Metrics,
		SigningKey: settings.SigningKeyFile, TrustedKeys: settings.TrustedKeysDir,
	})
	if err != nil {
		return config.Invalid(fmt.Errorf("connect to nats: %w", err))
	}
	d.Bus = b
	defer func() {
		p.stage.Store("the connection to nats")
		b.Close()
	}()

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var provisioned atomic.Bool
	d.Check("nats_connection", func() error {
		if err := b.Ready(); err != nil {
			return err
		}
		if !provisioned.Load() {
			return errors.New("connected, but the streams are not there yet")
		}
		return nil
	})
	d.Check("monitoring_active", func() error { return nil }) // while Run is; see the end
	p.current.Store(d)
	defer d.serveAPI(p.service.Summary)()

	var provisioning sync.WaitGroup
	provisioning.Go(func() {
		if err := provision(ctx, b, log); err != nil {
			cancel(err)
			return
		}
		provisioned.Store(true)
	})
	p.stage.Store("the service " + p.service.Name)
	err = p.service.Run(ctx, d)
	d.Check("monitoring_active", func() error { return errors.New("stopped") })
	p.stage.Store("setting up streams")
	cause := context.Cause(ctx)
	cancel(nil)
	provisioning.Wait()

	if refused := (*refusal)(nil); errors.As(cause, &refused) {
		return refused // whatever Run made of its end, this was why
	}
	if cause != nil && errors.Is(err, context.Canceled) {
		return nil // it was told to end
	}
	return err
}

// A refusal is an error of the bus that waiting cannot cure.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

const provisionAgain = 5 * time.Second

// provision sets up the streams, however long the server is away. The error
// is a refusal, or nil.
func provision(ctx context.Context, b *bus.Bus, log *slog.Logger) error {
	for {
		err := b.Provision(ctx)
		if err == nil {
			return nil
		}
		if errors.Is(err, bus.ErrPermission) || bus.IsPermanent(err) {
			return &refusal{err}
		}
		if ctx.Err() == nil {
			log.Warn("streams are not set up; trying again", "err", err, "after", provisionAgain.String())
		}
		select {
		case <-ctx.Done():
			return nil // the end, and no fault of ours
		case <-time.After(provisionAgain):
		}
	}
}

func (p *process) beatEverySecond(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.beatNow()
		}
	}
}

// move serves on another address. If that cannot be had the old one stays:
// better at the wrong door than at none.
func (p *process) move(ctx context.Context, old *http.Server, addr string) *http.Server {
	srv, err := p.listen(ctx, addr)
	if err != nil {
		p.log.Error("cannot serve on the new address; staying at the old one", "err", err)
		p.reloaded.Set(0)
		return old
	}
	p.stop(old)
	return srv
}

// atMost is a context for d, or for what is left of an orderly end.
func (p *process) atMost(d time.Duration) (context.Context, context.CancelFunc) {
	end := time.Now().Add(d)
	if !p.until.IsZero() && p.until.Before(end) {
		end = p.until
	}
	return context.WithDeadline(context.Background(), end)
}

// stop ends srv once the requests under way are answered, or after a second.
func (p *process) stop(srv *http.Server) {
	if srv == nil {
		return
	}
	ctx, cancel := p.atMost(time.Second)
	defer cancel()
	if srv.Shutdown(ctx) != nil {
		_ = srv.Close() // what is left is somebody's slow request
	}
}

func levelOf(s config.Settings) slog.Level {
	if s.DebugMode || s.VerboseLogging {
		return slog.LevelDebug
	}
	return slog.LevelInfo
}
