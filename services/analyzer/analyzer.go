// Package analyzer decides what to do about failures. It promises that every
// announcement of a failure ends in exactly one decision, however often it is
// delivered, however many analyzers there are, and whichever of them dies when;
// and that every decision says how it came about.
//
// A failure is judged by pure functions (package policy, cause and guard, put
// together in judge.go) over what is remembered of its fingerprint (package
// incident). The judgement is remembered first and told then.
package analyzer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident/book"
	"github.com/selfheal/selfheal/services/analyzer/internal/policy"
)

// Config is what an operator can choose. The zero value of a field is its default.
type Config struct {
	Mode            heal.Mode     // observe, approve or auto; default observe
	RecoveryTimeout time.Duration // of the actuator; default 5 min
	PolicyFile      string        // default: the built-in policy
	Protected       []string      // namespaces that nothing is done in, besides the cluster's own; default ours
	Workers         int           // failures judged at once; default 16
}

// Deps are what Run works with. Bus is required.
type Deps struct {
	Bus     *bus.Bus
	Log     *slog.Logger                           // default: discard
	Metrics prometheus.Registerer                  // default: none are kept
	Check   func(field string, check func() error) // of readiness; default: nobody asks
	Status  func(fields func() map[string]any)     // of /status; default: nobody asks
}

// Service is the analyzer as a process.
func Service() daemon.Service {
	return daemon.Service{
		Name:    "analyzer",
		Summary: "Decides what to do about each failure, and says why.",
		Run: func(ctx context.Context, d *daemon.Daemon) error {
			return Run(ctx, fromSettings(d.Settings), Deps{Bus: d.Bus, Log: d.Log, Metrics: d.Metrics, Check: d.Check, Status: d.Status})
		},
	}
}

func fromSettings(s config.Settings) Config {
	return Config{
		Mode:            heal.Mode(s.Mode),
		RecoveryTimeout: s.RecoveryTimeout,
		PolicyFile:      s.PolicyFile,
		Protected:       slices.Concat(daemon.OwnNamespaces(), daemon.NATSNamespaces(s.NATSURL)),
	}
}

func (c Config) withDefaults() Config {
	if c.Mode == "" {
		c.Mode = heal.ModeObserve
	}
	if c.RecoveryTimeout == 0 {
		c.RecoveryTimeout = 5 * time.Minute
	}
	if c.Protected == nil {
		c.Protected = []string{heal.Product}
	}
	if c.Workers == 0 {
		c.Workers = 16
	}
	return c
}

// sweepEvery is how often what can be forgotten is looked for.
const sweepEvery = 10 * time.Minute

// Run judges failures, and learns from the results of recoveries, until ctx is
// done. It returns early for a Config that cannot work (config.ErrSettings),
// and when the bus refuses it what it needs.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	a, err := newAnalyzer(cfg.withDefaults(), deps)
	if err != nil {
		return err
	}
	a.log.Info("analyzer starts", "mode", a.judge.mode, "policy", a.judge.policy.Ref("").Name, "revision", a.judge.policy.Ref("").Revision)

	var listening atomic.Bool
	if deps.Check != nil {
		deps.Check("monitoring_active", func() error {
			if !listening.Load() {
				return errors.New("not listening for failures")
			}
			return nil
		})
	}
	if deps.Status != nil {
		deps.Status(a.status)
	}

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		listening.Store(true)
		defer listening.Store(false)
		return bus.Failures.Consume(ctx, a.bus, bus.Consumer{
			Name:    "analyzer",
			Workers: cfg.withDefaults().Workers,
			Timeout: 30 * time.Second,
			Backoff: bus.Linear(time.Second, time.Minute),
		}, a.failure)
	})
	g.Go(func() error {
		return bus.Results.Consume(ctx, a.bus, bus.Consumer{
			Name:    "analyzer-feedback",
			Workers: 4,
			Timeout: 30 * time.Second,
			Backoff: bus.Linear(time.Second, time.Minute),
		}, a.result)
	})
	g.Go(func() error { return a.sweep(ctx) })
	return g.Wait()
}

// An analyzer is what Run runs.
type analyzer struct {
	bus     *bus.Bus
	log     *slog.Logger
	judge   judge
	book    *book.Book
	acted   acted
	metrics metrics

	failures  atomic.Int64 // episodes seen
	decisions atomic.Int64
}

func newAnalyzer(cfg Config, deps Deps) (*analyzer, error) {
	if deps.Bus == nil {
		return nil, errors.New("analyzer: no bus")
	}
	if !slices.Contains([]heal.Mode{heal.ModeObserve, heal.ModeApprove, heal.ModeAuto}, cfg.Mode) {
		return nil, config.Invalid(fmt.Errorf("mode: %q is not known; want observe, approve or auto", heal.Clean(string(cfg.Mode), 64)))
	}
	p, err := loadPolicy(cfg.PolicyFile)
	if err != nil {
		return nil, config.Invalid(err)
	}
	a := &analyzer{
		bus:  deps.Bus,
		log:  deps.Log,
		book: book.New(deps.Bus),
		judge: judge{
			policy:          p,
			mode:            cfg.Mode,
			recoveryTimeout: cfg.RecoveryTimeout,
			protected:       cfg.Protected,
		},
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.metrics, err = newMetrics(deps.Metrics, a.book.Active, a.log)
	return a, err
}

func loadPolicy(file string) (policy.Policy, error) {
	if file == "" {
		return policy.Builtin()
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return policy.Policy{}, fmt.Errorf("policy_file: %w", err)
	}
	p, err := policy.Parse(data)
	if err != nil {
		return policy.Policy{}, fmt.Errorf("policy_file %s: %w", file, err)
	}
	return p, nil
}

// failure judges one announcement and tells the decision.
func (a *analyzer) failure(ctx context.Context, m bus.Message[heal.Failure]) error {
	f, key := m.Data, incident.Key(m.Data)
	f.Envelope = heal.Envelope{ID: m.ID, Incident: m.CorrelationID}
	window := a.judge.policy.Window()
	if f.Resolved() {
		var after incident.State
		var news bool
		err := a.book.Update(ctx, key, func(s incident.State) (incident.State, bool) {
			after, news = s.Resolve(f, time.Now(), window)
			return after, news
		})
		if err == nil && news {
			a.log.Info("failure resolved", "incident", after.Incident.ID, "target", f.Target.String(), "type", f.Type, "still_open", after.Open(time.Now()))
		}
		return err
	}

	var made judgement
	var place time.Time // among the decisions that act
	err := a.book.Update(ctx, key, func(s incident.State) (incident.State, bool) {
		a.acted.giveBack(place) // of an attempt that another analyzer overtook
		place = time.Time{}
		o := occasion{failure: f, announced: m.Stored, now: time.Now()}
		for {
			var next incident.State
			o.acted = a.acted.before(o.now)
			next, made = a.judge.decide(s, o)
			if !made.fresh || !made.decision.Acts() {
				return next, made.fresh
			}
			if a.acted.take(o.now, a.judge.policy.Guards().ActionsPerMinute) {
				place = o.now
				return next, true
			}
			// Another failure took the last place since: judge with that known.
		}
	})
	if err != nil {
		a.acted.giveBack(place)
		return err
	}
	if !made.tell {
		return nil
	}
	d := made.decision
	if made.fresh {
		a.note(made)
	}
	if err := bus.Decisions.Publish(ctx, a.bus, d); err != nil {
		return err
	}
	a.book.Told(key, d.ID)
	return nil
}

// note counts and logs a decision, once.
func (a *analyzer) note(made judgement) {
	d := made.decision
	a.decisions.Add(1)
	if made.episode {
		a.failures.Add(1)
	}
	a.metrics.note(made)
	a.log.Info("decision made",
		"incident", d.IncidentID, "decision", d.ID, "failure", d.Failure.EventID(), "target", d.Target.String(),
		"type", d.Type, "failure_reason", heal.Clean(d.Failure.Reason, 64), "occurrence", d.Failure.Occurrence,
		"severity", d.Severity, "similar", d.SimilarFailures, "strategy", d.Strategy, "reason", d.Reason,
		"mode", d.Mode, "acts", d.Acts())
}

// result learns how a recovery ended.
func (a *analyzer) result(ctx context.Context, m bus.Message[heal.Result]) error {
	r := m.Data
	if !r.Decision.Acts() {
		return nil // nobody waits for it
	}
	var after incident.State
	var ended bool
	err := a.book.Update(ctx, incident.Key(r.Decision.Failure), func(s incident.State) (incident.State, bool) {
		after, ended = s.End(r, m.Stored, time.Now())
		return after, ended
	})
	if err == nil && ended {
		a.log.Info("recovery ended", "incident", r.Decision.IncidentID, "decision", r.Decision.ID,
			"outcome", r.Outcome, "reason", heal.Clean(r.Reason, 64), "failed_in_a_row", after.Failed)
	}
	return err
}

// sweep forgets now and then what nobody needs.
func (a *analyzer) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		n, err := a.book.Sweep(ctx, time.Now(), a.judge.policy.Window())
		if err != nil && ctx.Err() == nil {
			a.log.Warn("old incidents are kept for now", "err", err)
		}
		if n > 0 {
			a.log.Debug("old incidents deleted", "count", n)
		}
	}
}

func (a *analyzer) status() map[string]any {
	return map[string]any{"failures_detected": a.failures.Load(), "decisions_made": a.decisions.Load()}
}
