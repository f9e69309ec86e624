package actuate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// carryOut returns how the decision ended and whose veto that was, if any; or
// an error if it has not.
func (a *Actuator) carryOut(ctx context.Context, log *slog.Logger, m bus.Message[heal.Decision], c *claim, first *glance) (Ending, string, error) {
	d := m.Data
	rec := c.record()
	expires := a.expires(m, rec)
	answer := rec.answer(m.Stored)
	job := a.job(d)
	j := &judge{
		decision: d, made: m.Time, expires: expires, reader: a.reader, brake: a.Brake, log: log, job: job, first: first,
		mode: d.Mode.Tighter(a.Mode), approved: answer != nil && answer.Approved || a.DryRun,
	}

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

// job is the decision as an action sees it.
func (a *Actuator) job(d heal.Decision) *action.Job {
	return &action.Job{
		Decision: d, Kube: a.kube, Reader: a.reader, Cordons: a.Cordons, Leftovers: a.Left, Cooldowns: a.cooldowns,
		Machines: a.machines, DryRun: a.DryRun, FailBack: a.FailBack,
	}
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
