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
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/sight"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident/book"
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

	Answer func(bus.Endpoint) // what it can be asked for; default: nobody asks

	Reloaded func(ok bool) // whether a changed policy file could be used; default: nobody asks
}

// Service is the analyzer as a process.
func Service() daemon.Service {
	return daemon.Service{
		Name:    "analyzer",
		Summary: "Decides what to do about each failure, and says why.",
		Run: func(ctx context.Context, d *daemon.Daemon) error {
			return Run(ctx, fromSettings(d.Settings), Deps{Bus: d.Bus, Log: d.Log, Metrics: d.Metrics, Check: d.Check, Status: d.Status, Answer: d.Answer, Reloaded: d.SetReloaded})
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
	a.log.Info("analyzer starts", "signing_key", a.bus.SigningKey(), "mode", a.judge().mode, "policy", a.judge().policy.Ref("").Name, "revision", a.judge().policy.Ref("").Revision)

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
	if deps.Answer != nil {
		for _, e := range a.endpoints() {
			deps.Answer(e)
		}
	}

	a.begin(ctx)
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
	g.Go(func() error { a.watchPolicy(ctx, cfg.PolicyFile); return nil })
	g.Go(func() error {
		a.book.KeepBoards(ctx, func(err error) { a.log.Warn("causes are looked for with less evidence for now", "err", err) })
		return nil
	})
	g.Go(func() error { return a.sight.Run(ctx) })
	return g.Wait()
}

// An analyzer is what Run runs.
type analyzer struct {
	bus     *bus.Bus
	log     *slog.Logger
	judging atomic.Pointer[judge] // replaced when the policy is
	book    *book.Book
	acted   acted
	sight   *sight.View
	metrics metrics

	reloaded func(ok bool) // told of every policy that is read again

	failures  atomic.Int64 // episodes seen
	decisions atomic.Int64
}

// judge is the present one.
func (a *analyzer) judge() judge { return *a.judging.Load() }

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
	}
	a.judging.Store(&judge{
		policy:          p,
		mode:            cfg.Mode,
		recoveryTimeout: cfg.RecoveryTimeout,
		protected:       cfg.Protected,
	})
	if a.reloaded = deps.Reloaded; a.reloaded == nil {
		a.reloaded = func(bool) {}
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	a.sight = sight.New(deps.Bus, a.log)
	a.metrics, err = newMetrics(deps.Metrics, a.book.Active, a.log)
	return a, err
}

// failure judges one announcement and tells the decision.
func (a *analyzer) failure(ctx context.Context, m bus.Message[heal.Failure]) error {
	f, key := m.Data, incident.GroupKey(m.Data)
	f.Envelope = heal.Envelope{ID: m.ID, Incident: m.CorrelationID}
	j := a.judge()
	window := j.policy.Window()
	if f.Resolved() {
		var after incident.State
		var news bool
		err := a.book.Update(ctx, key, func(g incident.Group) (incident.Group, bool) {
			after, news = g.States[incident.Key(f)].Resolve(f, time.Now(), window)
			return g.With(f, after), news
		})
		a.book.Note(f, "")
		if err != nil {
			return err
		}
		if news {
			a.log.Info("failure resolved", "incident", after.Incident.ID, "target", f.Target.String(), "type", f.Type, "still_open", after.Open(time.Now()))
		}
		return a.wake(ctx, j, f, m.Stored)
	}

	around, err := a.around(ctx, f)
	if err != nil {
		return err
	}
	return a.decide(ctx, j, occasion{failure: f, announced: m.Stored, around: around})
}

// decide makes the decision about an occasion, and tells it.
func (a *analyzer) decide(ctx context.Context, j judge, o occasion) error {
	o.sight = a.sight.Now(ctx)
	made, err := a.settle(ctx, j, o)
	if err != nil {
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
	a.book.Told(incident.GroupKey(o.failure), d.ID)
	a.book.Note(o.failure, d.IncidentID)
	return nil
}

// settle makes the judgement about an occasion, and remembers it. What acts has
// taken its place in the minute then, and has paid from its rule's budget.
func (a *analyzer) settle(ctx context.Context, j judge, o occasion) (made judgement, err error) {
	o.spent = map[string]int{}
	var place time.Time // among the decisions that act
	for {
		err = a.book.Update(ctx, incident.GroupKey(o.failure), func(g incident.Group) (incident.Group, bool) {
			a.acted.giveBack(place) // of an attempt that another analyzer overtook
			place = time.Time{}
			o.now = time.Now()
			for {
				var next incident.Group
				o.acted = a.acted.before(o.now)
				next, made = j.decideIn(g, o)
				if !made.fresh || !made.decision.Acts() {
					return next, made.fresh
				}
				if _, owes := made.owes(o.spent); owes {
					return g, false // nothing is asked of the server in here
				}
				if a.acted.take(o.now, j.policy.Guards().ActionsPerMinute) {
					place = o.now
					return next, true
				}
				// Another failure took the last place since: judge with that known.
			}
		})
		rule, owes := made.owes(o.spent)
		if err != nil || !owes {
			break
		}
		b := made.budget
		if o.spent[rule], err = a.book.Spend(ctx, rule, made.decision.ID, o.now, b.Actions, time.Duration(b.Per)); err != nil {
			return made, err
		}
	}
	if err != nil {
		a.acted.giveBack(place)
	}
	for rule := range o.spent {
		if err == nil && made.fresh && (made.pays != rule || !made.decision.Acts()) {
			if err := a.book.GiveBack(ctx, rule, made.decision.ID); err != nil {
				a.log.Warn("a budget counts a decision that does not act", "rule", rule, "decision", made.decision.ID, "err", err)
			}
		}
	}
	return made, err
}

// around looks at what f may follow from. All of it is read from what was
// seen a moment ago, or at the same time.
func (a *analyzer) around(ctx context.Context, f heal.Failure) (incident.Around, error) {
	around, want := incident.Around{}, incident.Surroundings(f)
	g, ctx := errgroup.WithContext(ctx)
	group := func(into *incident.Group, key string) {
		if known, ok := a.book.GroupAtHand(key); ok || key == "" {
			*into = known
			return
		}
		g.Go(func() (err error) { *into, err = a.book.Group(ctx, key); return err })
	}
	board := func(into *incident.Board, key string) {
		if known, ok := a.book.BoardAtHand(key); ok || key == "" {
			*into = known
			return
		}
		g.Go(func() (err error) { *into, err = a.book.Board(ctx, key); return err })
	}
	group(&around.Node, want.Node)
	board(&around.OnNode, want.OnNode)
	board(&around.Namespace, want.Namespace)
	board(&around.Registry, want.Registry)
	board(&around.Nodes, want.Nodes)
	backing := make(map[string]*incident.Group, len(want.Backing))
	for name, key := range want.Backing {
		backing[name] = new(incident.Group)
		group(backing[name], key)
	}
	if err := g.Wait(); err != nil {
		return around, fmt.Errorf("what %s may follow from: %w", f.Target, err)
	}
	around.Backing = make(map[string]incident.Group, len(backing))
	for name, g := range backing {
		around.Backing[name] = *g
	}
	return around, nil
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
	f := r.Decision.Failure
	err := a.book.Update(ctx, incident.GroupKey(f), func(g incident.Group) (incident.Group, bool) {
		now := time.Now()
		if after, ended = g.States[incident.Key(f)].End(r, m.Stored, now); !ended {
			return g, false
		}
		return g.With(f, after).Learn(r, now), true
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
		n, err := a.book.Sweep(ctx, time.Now(), a.judge().policy.Window())
		if err != nil && ctx.Err() == nil {
			a.log.Warn("old incidents are kept for now", "err", err)
		}
		if n > 0 {
			a.log.Debug("old incidents deleted", "count", n)
		}
	}
}

func (a *analyzer) status() map[string]any {
	return map[string]any{"failures_detected": a.failures.Load(), "decisions_made": a.decisions.Load(), "signing_key": a.bus.SigningKey()}
}
