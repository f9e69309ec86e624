// Package actuate carries out decisions: it judges each by what is true on the
// live cluster, changes the cluster, looks whether that helped, and says how
// it ended.
//
// It promises that a decision ends in exactly one result, and that its changes
// are made once, however often the decision is delivered, to however many
// replicas, and wherever one of them dies. What is safe about that are the
// preconditions of the requests; the ledger only makes it go on.
package actuate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/sight"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/webhook"
)

// Config is how the actuator works. All fields are required but DryRun,
// Reserved, Home and Node.
type Config struct {
	Instance        string    // tells this process from other replicas
	Mode            heal.Mode // however loose a decision's is, never looser than this
	DryRun          bool
	RecoveryTimeout time.Duration // from the first change to giving up
	VerifyWindow    time.Duration // how long a recovery must hold
	Lease           time.Duration // after which a silent worker's decision is taken over
	MaxAge          time.Duration // after which no decision is carried out, whatever it says itself
	CordonInterval  time.Duration // between looks at nodes that stayed cordoned
	ApprovalTime    time.Duration // how long a person has to agree to a decision, counted from when it was made
	ApprovalLook    time.Duration // between looks whether what a person is asked for is still needed
	FailBack        time.Duration // how long a service's primary must have been Ready for a failover to be taken back
	Limits          guard.Limits
	Reserved        []string // namespaces that are never touched, beside Kubernetes' own
	Home            []string // namespaces whose marks count for all of the cluster
	Node            string   // on which this process runs; empty if that is not known
}

// Deps are what the actuator works with. All are required but Watch, Metrics
// and Paused.
type Deps struct {
	Bus     *bus.Bus
	Kube    kubernetes.Interface
	Watch   kubernetes.Interface
	Log     *slog.Logger
	Metrics prometheus.Registerer
	Paused  func(bool) // told whether anything may be changed, whenever that changes

	Machines *webhook.Client // who restarts and replaces machines; nil for nobody
}

// An Actuator turns every decision into one result. It is safe for concurrent use.
type Actuator struct {
	Config
	Cordons *Cordons
	Left    *Leftovers
	Brake   *Brake
	Events  *Events
	Sight   *sight.View // to be run beside

	kube      kubernetes.Interface
	reader    live.Reader
	ledger    ledger
	spending  *spending
	cooldowns *action.Cooldowns
	machines  *webhook.Client
	evidence  *bus.Objects
	publish   func(context.Context, heal.Result) error

	tellControl func(context.Context, heal.Control) error
	log         *slog.Logger
	metrics     *metrics
	stopping    context.Context // done when nothing new may begin, and waits end
	attempts    atomic.Uint64   // tells the attempts of this process apart
}

// New returns an actuator that stops waiting for anything when stopping is done.
func New(stopping context.Context, cfg Config, deps Deps) (*Actuator, error) {
	m, err := newMetrics(deps.Metrics, action.Default, guard.Decided)
	if err != nil {
		return nil, err
	}
	eyes := sight.New(deps.Bus, deps.Log)
	a := &Actuator{
		Config:  cfg,
		Sight:   eyes,
		kube:    deps.Kube,
		reader:  live.Reader{Kube: deps.Kube, Watch: deps.Watch, Reserved: cfg.Reserved, Sight: eyes.Now, OwnNode: cfg.Node},
		ledger:  ledger{store: bus.NewStore[Record](deps.Bus, bus.ActionsBucket), lease: cfg.Lease},
		publish: func(ctx context.Context, r heal.Result) error { return bus.Results.Publish(ctx, deps.Bus, r) },
		log:     deps.Log,

		tellControl: func(ctx context.Context, c heal.Control) error { return bus.Controls.Publish(ctx, deps.Bus, c) },
		metrics:     m,
		stopping:    stopping,
		cooldowns:   action.NewCooldowns(),
		machines:    deps.Machines,
		evidence:    bus.NewObjects(deps.Bus, bus.EvidenceBucket),
		spending: &spending{
			windows: bus.NewStore[guard.Window](deps.Bus, bus.ActionsBucket),
			slots:   bus.NewStore[slot](deps.Bus, bus.ActionsBucket),
			taken:   bus.NewStore[guard.Rollbacks](deps.Bus, bus.ActionsBucket),
			limits:  cfg.Limits,
			turn:    make(chan struct{}, 1),
		},
	}
	a.Brake = newBrake(deps.Bus, a.reader, cfg.Home, deps.Paused, deps.Log)
	a.Events = newEvents(deps.Kube, a.Brake, cfg.Instance, deps.Log)
	a.Cordons = &Cordons{
		store:  bus.NewStore[cordonList](deps.Bus, bus.ActionsBucket),
		ledger: a.ledger, kube: deps.Kube, reader: a.reader, brake: a.Brake,
		every: cfg.CordonInterval, window: cfg.VerifyWindow, log: deps.Log,
	}
	a.Left = &Leftovers{
		store:  bus.NewStore[leftoverList](deps.Bus, bus.ActionsBucket),
		ledger: a.ledger, kube: deps.Kube, reader: a.reader, brake: a.Brake, every: cfg.CordonInterval, log: deps.Log,
	}
	return a, nil
}

// Counts are how many recoveries have succeeded and failed.
func (a *Actuator) Counts() (successful, failed int64) {
	return a.metrics.successful.Load(), a.metrics.failed.Load()
}

var errStopping = errors.New("the actuator is stopping")

// Handle carries out the decision of m, tells the result, and returns nil; or
// an error that says when the decision must come again.
func (a *Actuator) Handle(ctx context.Context, m bus.Message[heal.Decision]) error {
	crash.At(crash.AfterFetch)
	d := m.Data
	log := a.log.With("decision_id", d.ID, "incident_id", d.IncidentID, "target", d.Target.String(), "strategy", string(d.Strategy))
	if end, veto, passive := a.passive(d); passive {
		now := time.Now()
		end.Started, end.Attempt = now, attempt(m)
		return a.tell(ctx, log, d, end, veto, passively)
	}
	if a.stopping.Err() != nil {
		return bus.Later(errStopping, time.Second)
	}
	first := a.glance(ctx, m)
	defer first.stop()
	c, err := a.claim(ctx, d.ID)
	var busy errBusy
	switch {
	case errors.As(err, &busy) && busy.asked:
		return bus.Later(err, a.ApprovalLook) // the answer carries it on
	case errors.As(err, &busy):
		return bus.Later(err, min(busy.free, 5*time.Second)+time.Second)
	case err != nil:
		return bus.Later(err, again(m.Attempt))
	}
	if rec := c.record(); rec.Ending != nil {
		return a.tellAgain(ctx, log, d, c, rec)
	}
	crash.At(crash.AfterClaim)
	return a.work(ctx, log, m, c, first)
}

// claim takes the decision for an attempt of this process.
func (a *Actuator) claim(ctx context.Context, id string) (*claim, error) {
	ctx, end := span(ctx, "claim")
	defer end()
	return a.ledger.claim(ctx, id, a.owner())
}

// owner is a name for an attempt of its own.
func (a *Actuator) owner() string { return fmt.Sprintf("%s/%d", a.Instance, a.attempts.Add(1)) }

// passive is how a decision ends that does not ask for a change.
func (a *Actuator) passive(d heal.Decision) (end Ending, veto string, passive bool) {
	for _, v := range d.Guards {
		if !v.Allowed {
			reason := v.Reason
			if reason == "" {
				reason = d.Reason
			}
			return Ending{Outcome: heal.Rejected, Reason: reason, Message: sentence("not done: the guard %s refused it: %s", v.Name, v.Detail)}, "", true
		}
	}
	mode := d.Mode.Tighter(a.Mode)
	switch {
	case d.Strategy == heal.Monitor:
		return Ending{Outcome: heal.Skipped, Reason: d.Reason, Message: sentence("nothing to do but to watch %s: %s", d.Target, d.Explanation.Summary)}, "", true
	case mode == heal.ModeOff, mode == heal.ModeObserve:
		reason := d.Reason
		if reason == heal.ReasonSeverityTable || d.Mode != mode {
			reason = map[heal.Mode]string{heal.ModeOff: "ModeOff", heal.ModeObserve: "ModeObserve"}[mode]
		}
		return Ending{Outcome: heal.Skipped, Reason: reason, Message: sentence("%s of %s was only proposed: the mode is %s", d.Strategy, d.Target, mode)}, "", true
	}
	return Ending{}, "", false
}

// work carries the decision out, which is ours by the claim c. The first look
// at the cluster may be under way, or nil.
func (a *Actuator) work(ctx context.Context, log *slog.Logger, m bus.Message[heal.Decision], c *claim, first *glance) error {
	doing, stop := context.WithCancelCause(ctx)
	defer context.AfterFunc(a.stopping, func() { stop(errStopping) })()
	var keeping sync.WaitGroup
	keeping.Go(func() { c.keep(doing, stop) })
	end, veto, err := a.carryOut(doing, log, m, c, first)
	stop(nil)
	keeping.Wait()
	needs := needsApproval(err)
	if err == nil || needs != nil {
		a.giveBack(ctx, log, m.Data, c)
	}
	switch {
	case err == nil:
		return a.finish(ctx, log, m.Data, c, end, veto)
	case needs != nil:
		return a.ask(ctx, log, m, c, needs)
	}
	if errors.Is(err, errLost) || errors.Is(context.Cause(doing), errLost) {
		return bus.Later(errLost, a.Lease)
	}
	wait := again(m.Attempt)
	var later *action.Wait
	switch {
	case errors.Is(err, errStopping), errors.Is(context.Cause(doing), errStopping):
		err, wait = errStopping, time.Second
	case errors.As(err, &later):
		wait = later.For
	}
	log.Debug("decision waits", "delay", wait, "err", err)
	parting, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if releaseErr := c.release(parting, err); releaseErr != nil {
		err = errors.Join(err, releaseErr) // the lease runs out by itself
	}
	return bus.Later(err, wait)
}

// giveBack gives back what was taken from the budgets and is not needed.
func (a *Actuator) giveBack(ctx context.Context, log *slog.Logger, d heal.Decision, c *claim) {
	if d.Target.Kind == "Node" {
		if err := a.spending.freeNode(ctx, d.ID); err != nil {
			log.Debug("the turn of the node runs out by itself", "err", err)
		}
	} else if d.Strategy == heal.Rollback && !c.record().acted() {
		if err := a.spending.freeRollback(ctx, d.ID, d.Target); err != nil {
			log.Debug("the roll-back counts although it was not made", "err", err)
		}
	}
}

// again is how long to wait after an attempt that met an obstacle which may pass.
func again(attempt uint64) time.Duration {
	return min(time.Second<<min(attempt, 5), 20*time.Second)
}

func isNotFound(err error) bool { return errors.Is(err, bus.ErrNotFound) }
