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
	"strings"
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
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
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
	c, err := a.ledger.claim(ctx, d.ID, a.owner())
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
	return a.work(ctx, log, m, c)
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

// work carries the decision out, which is ours by the claim c.
func (a *Actuator) work(ctx context.Context, log *slog.Logger, m bus.Message[heal.Decision], c *claim) error {
	doing, stop := context.WithCancelCause(ctx)
	defer context.AfterFunc(a.stopping, func() { stop(errStopping) })()
	var keeping sync.WaitGroup
	keeping.Go(func() { c.keep(doing, stop) })
	end, veto, err := a.carryOut(doing, log, m, c)
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

// carryOut returns how the decision ended and whose veto that was, if any; or
// an error if it has not.
func (a *Actuator) carryOut(ctx context.Context, log *slog.Logger, m bus.Message[heal.Decision], c *claim) (Ending, string, error) {
	d := m.Data
	rec := c.record()
	expires := a.expires(m, rec)
	answer := rec.answer(m.Stored)
	j := &judge{
		decision: d, made: m.Time, expires: expires, reader: a.reader, brake: a.Brake, log: log,
		mode: d.Mode.Tighter(a.Mode), approved: answer != nil && answer.Approved || a.DryRun,
	}
	job := &action.Job{Decision: d, Kube: a.kube, Reader: a.reader, Cordons: a.Cordons, Leftovers: a.Left, Cooldowns: a.cooldowns, Machines: a.machines, DryRun: a.DryRun, FailBack: a.FailBack}
	j.job = job

	act, refusal := action.Find(action.Default, d)
	if refusal == nil && answer != nil {
		refusal = answer.noted(c)
	}
	if refusal == nil && !rec.acted() {
		refusal = timely(time.Now(), m.Time, expires, rec.Trouble)
		if refusal != nil && rec.Asked != nil && answer == nil {
			refusal = unanswered(ctx, j, refusal)
		}
	}
	if refusal != nil {
		return a.refused(m, c, refusal), refusal.Guard, nil
	}
	if a.DryRun {
		dry := &dryDesk{judge: j}
		job.Desk, job.Cordons, job.Leftovers = dry, noCordons{}, noLeftovers{}
		return a.dryRun(ctx, m, c, act, job, dry)
	}
	k := &desk{judge: j, claim: c, spending: a.spending, timeout: a.RecoveryTimeout,
		begin: func() { a.metrics.attempted.WithLabelValues(string(d.Type), string(d.Strategy)).Inc() }}
	if act.Node {
		k.node = d.Target.Name
	}
	job.Desk = k

	verdict, veto := rec.Verdict, ""
	if verdict == nil {
		concluded, by, err := a.act(ctx, act, job, k)
		if err != nil {
			return Ending{}, "", err
		}
		c.note(func(r *Record) { r.Verdict = &concluded })
		verdict, veto = &concluded, by
	}
	undo, err := a.settle(ctx, act, job, k, *verdict)
	if err != nil {
		return Ending{}, "", err
	}
	return a.ending(m, c, *verdict, undo), veto, nil
}

// settle puts away what is not needed any more. What cannot be put away for
// good is left to a person: the result must not wait for it.
func (a *Actuator) settle(ctx context.Context, act action.Action, job *action.Job, k *desk, v verify.Conclusion) (*heal.Undo, error) {
	if act.Settle == nil || !k.claim.record().acted() {
		return nil, nil
	}
	undo, err := act.Settle(ctx, job, v)
	const patience = 2 * time.Minute
	var refusal *guard.Refusal
	if errors.As(err, &refusal) || err != nil && time.Now().After(k.deadline().Add(patience)) {
		return &heal.Undo{Summary: sentence("what was changed of %s could not be taken back: %v", k.decision.Target, err)}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("settle: %w", err)
	}
	return undo, nil
}

// timely refuses a decision that is too old, or from the future.
func timely(now, made, expires time.Time, trouble string) *guard.Refusal {
	const skew = 30 * time.Second
	switch {
	case made.After(now.Add(skew)):
		return guard.Refuse("expiry", guard.Veto("ClockSkew", "the decision was made %s in the future: the clocks of the analyzer and the actuator differ",
			made.Sub(now).Round(time.Second)))
	case !now.Before(expires):
		r := expired(now, made, expires)
		if trouble != "" {
			r.Detail += "; before, it could not be carried out: " + trouble
		}
		return r
	}
	return nil
}

// act does what the decision asks for, and looks whether it helped. A refusal
// is a conclusion, and comes with the name of the guard.
func (a *Actuator) act(ctx context.Context, act action.Action, job *action.Job, k *desk) (verify.Conclusion, string, error) {
	rec := k.claim.record()
	err := a.prepare(ctx, act, k, rec)
	if err == nil {
		crash.At(crash.AfterPrecheck)
		if !rec.acted() {
			var serving sync.WaitGroup
			facts := job.Facts // the job's change while it goes on
			serving.Go(func() { served(ctx, a.reader, facts, k.claim) })
			defer serving.Wait()
			k.keeping = a.keep(ctx, k.decision, k.made, job.Facts)
			defer k.keeping.stop()
		}
		err = act.Do(ctx, job)
	}
	if c, by, over := a.conclude(err, k); over {
		return c, by, nil
	}
	if err != nil {
		return verify.Conclusion{}, "", err
	}
	sights := act.Sights(job)
	begin := time.Now()
	deadline := k.deadline()
	if look := begin.Add(2 * a.VerifyWindow); rec.acted() && look.After(deadline) {
		deadline = look // its actuator died, and nobody has looked for long enough
	}
	c, err := verify.Wait(ctx, verify.Plan{
		Window:   a.VerifyWindow,
		Deadline: deadline,
		Look:     withServing(a.reader, k.claim, sights.Look),
		Follow:   sights.Follow,
		Keep:     func(p verify.Progress) { k.claim.note(func(r *Record) { r.Progress = p }) },
	}, rec.Progress)
	if err != nil {
		return verify.Conclusion{}, "", err
	}
	status := heal.StepOK
	if c.Outcome != heal.Succeeded {
		status = heal.StepFailed
	}
	k.Note(heal.Step{Name: "verify", Status: status, Milliseconds: milliseconds(time.Since(begin)), Detail: c.Message})
	return c, "", nil
}

// prepare judges the decision, unless it was acted on already: then each
// request is judged by itself, as what is done cannot be refused any more.
func (a *Actuator) prepare(ctx context.Context, act action.Action, k *desk, rec Record) error {
	if act.Node && !rec.acted() {
		if err := k.spending.node(ctx, k.decision.ID, k.node); err != nil {
			return err
		}
	}
	begin := time.Now()
	err := k.Recheck(ctx, 0)
	var refusal *guard.Refusal
	if rec.acted() && (err == nil || errors.As(err, &refusal)) {
		return nil // the facts are there
	}
	if err == nil {
		k.Note(heal.Step{Name: "precheck", Status: heal.StepOK, Milliseconds: milliseconds(time.Since(begin)),
			Detail: fmt.Sprintf("%d guards have nothing against it", len(guard.Decided))})
	}
	return err
}

// conclude reports whether err ends the decision, and how.
func (a *Actuator) conclude(err error, k *desk) (verify.Conclusion, string, bool) {
	var refusal *guard.Refusal
	var wait *action.Wait
	now := time.Now()
	switch {
	case err == nil:
		return verify.Conclusion{}, "", false
	case errors.As(err, &wait) && now.Add(wait.For).Before(k.LastWrite()):
		return verify.Conclusion{}, "", false
	case needsApproval(err) != nil && !k.claim.record().acted():
		return verify.Conclusion{}, "", false
	case errors.As(err, &refusal):
		return verify.Conclusion{Outcome: refusal.Outcome, Reason: refusal.Reason, Message: refusal.Detail}, refusal.Guard, true
	}
	rec := k.claim.record()
	if rec.acted() && !now.Before(k.deadline()) {
		return verify.Conclusion{Outcome: heal.TimedOut, Reason: "OutcomeUnknown",
			Message: sentence("the change was asked for, but what became of it could not be found out: %v", err)}, "", true
	}
	return verify.Conclusion{}, "", false
}

// dryRun does what the decision asks for, but only in dry runs.
func (a *Actuator) dryRun(ctx context.Context, m bus.Message[heal.Decision], c *claim, act action.Action, job *action.Job, dry *dryDesk) (Ending, string, error) {
	err := dry.Recheck(ctx, 0)
	if err == nil {
		crash.At(crash.AfterPrecheck)
		err = act.Do(ctx, job)
	}
	var wait *action.Wait
	var refusal *guard.Refusal
	switch {
	case errors.As(err, &wait) && time.Now().Add(wait.For).Before(dry.LastWrite()):
		return Ending{}, "", err
	case errors.As(err, &refusal):
		end := a.refused(m, c, refusal)
		end.DryRun = true
		return end, refusal.Guard, nil
	case err != nil:
		return Ending{}, "", err
	}
	end := a.ending(m, c, verify.Conclusion{Outcome: heal.DryRun, Reason: "DryRun",
		Message: sentence("%s of %s would have been done: the API server accepts each request", m.Data.Strategy, m.Data.Target)}, nil)
	end.DryRun, end.Verification = true, nil
	end.Steps = dry.steps
	return end, "", nil
}

func (a *Actuator) refused(m bus.Message[heal.Decision], c *claim, r *guard.Refusal) Ending {
	return a.ending(m, c, verify.Conclusion{Outcome: r.Outcome, Reason: r.Reason, Message: r.Detail}, nil)
}

// ending puts together what the result says.
func (a *Actuator) ending(m bus.Message[heal.Decision], c *claim, v verify.Conclusion, undo *heal.Undo) Ending {
	rec := c.record()
	end := Ending{
		Outcome: v.Outcome, Reason: v.Reason, Message: sentence("%s", v.Message),
		Attempt: attempt(m), Started: rec.Started, Duration: time.Since(rec.Started).Seconds(),
		Steps: steps(rec), Undo: undo, DryRun: a.DryRun, Evidence: rec.Kept,
	}
	if rec.acted() && v.Checks != nil {
		end.Verification = &heal.Verification{Passed: v.Outcome == heal.Succeeded, Checks: v.Checks}
	}
	return end
}

// steps are the record's, but not more than a person would read.
func steps(rec Record) []heal.Step {
	const most = 40
	all := []heal.Step{}
	more := 0
	for _, s := range rec.Steps {
		if len(all) >= most && s.Key != "" {
			more++
			continue
		}
		all = append(all, s.Step)
	}
	if more > 0 {
		all = append(all, heal.Step{Name: "more", Status: heal.StepOK, Detail: fmt.Sprintf("and %d more requests", more)})
	}
	return all
}

// finish writes the ending down and tells it. From then on no delivery of the
// decision does anything but tell it again.
func (a *Actuator) finish(ctx context.Context, log *slog.Logger, d heal.Decision, c *claim, end Ending, veto string) error {
	how := refusing
	if c.record().acted() {
		how = acting
	}
	err := c.save(ctx, func(r *Record) {
		*r = Record{Started: r.Started, Renewed: r.Renewed, Ending: &end, Plan: planOf(d, *r, end)}
	})
	if err != nil {
		return bus.Later(err, time.Second)
	}
	crash.At(crash.AfterRecordBeforeAck)
	if err := a.tell(ctx, log, d, end, veto, how); err != nil {
		return err
	}
	a.shrink(ctx, log, c)
	return nil
}

// A manner is how far a decision got.
type manner int

const (
	passively manner = iota // it asked for nothing
	refusing                // it asked for a change, and none was made
	acting                  // the cluster was changed
)

// tell publishes the result and counts it.
func (a *Actuator) tell(ctx context.Context, log *slog.Logger, d heal.Decision, end Ending, veto string, how manner) error {
	r := end.result(d)
	if err := a.publish(ctx, r); err != nil {
		if bus.IsPermanent(err) {
			return err
		}
		return bus.Later(err, time.Second)
	}
	a.metrics.result(r, veto, how == acting)
	if how != passively && !r.DryRun {
		a.Events.Result(r)
	}
	level := slog.LevelInfo
	if how == passively {
		level = slog.LevelDebug // the story is the analyzer's
	}
	log.Log(ctx, level, "decision ended", "outcome", string(r.Outcome), "reason", r.Reason, "message", r.Message,
		"attempt", r.Attempt, "seconds", r.Duration)
	return nil
}

// tellAgain is for a decision that ended before, but whose message was not
// seen to be done.
func (a *Actuator) tellAgain(ctx context.Context, log *slog.Logger, d heal.Decision, c *claim, rec Record) error {
	if rec.Told {
		return nil
	}
	if err := a.publish(ctx, rec.Ending.result(d)); err != nil {
		return bus.Later(err, time.Second)
	}
	log.Info("result told again", "outcome", string(rec.Ending.Outcome), "reason", rec.Ending.Reason)
	a.shrink(ctx, log, c)
	return nil
}

// shrink leaves of a record that was told only that it was: a month of
// decisions has to fit into the bucket.
func (a *Actuator) shrink(ctx context.Context, log *slog.Logger, c *claim) {
	err := c.save(ctx, func(r *Record) {
		r.Told = true
		r.Ending = &Ending{Outcome: r.Ending.Outcome, Reason: r.Ending.Reason}
	})
	if err != nil {
		log.Debug("record stays as long as it is", "err", err)
	}
}

// result is the ending of d as it is told.
func (e Ending) result(d heal.Decision) heal.Result {
	if e.Steps == nil {
		e.Steps = []heal.Step{}
	}
	return heal.Result{
		Decision: d, Outcome: e.Outcome, Reason: e.Reason, Message: e.Message, Attempt: e.Attempt,
		StartedAt: e.Started.UTC(), Duration: e.Duration, Steps: e.Steps,
		Verification: e.Verification, Undo: e.Undo, DryRun: e.DryRun, Evidence: e.Evidence,
	}
}

func attempt(m bus.Message[heal.Decision]) int { return int(min(m.Attempt, 1<<30)) }

func isNotFound(err error) bool { return errors.Is(err, bus.ErrNotFound) }

// sentence is a message for people: no longer than one reads at night, and
// free of what a foreign text may bring along.
func sentence(format string, args ...any) string {
	return heal.Clean(strings.TrimSpace(fmt.Sprintf(format, args...)), 4*heal.MaxText)
}
