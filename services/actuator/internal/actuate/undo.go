package actuate

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// A Plan is what must be known to take back what a decision changed. It stays
// in the decision's record.
type Plan struct {
	Decision heal.Decision   `json:"decision"`
	Memory   json.RawMessage `json:"memory,omitempty"`
}

// planOf is the plan to undo what the record says was done; nil if nothing
// can be taken back.
func planOf(d heal.Decision, rec Record, end Ending) *Plan {
	act, refusal := action.Find(action.Default, d)
	if refusal != nil || act.Undo == nil || end.Undo == nil || !rec.acted() {
		return nil
	}
	// A record is small, and only who and what is needed.
	d.Explanation, d.Guards, d.Parameters = heal.Explanation{}, nil, nil
	d.Failure.Evidence, d.Failure.Metadata, d.Failure.Description = nil, nil, ""
	return &Plan{d, rec.Memory}
}

// undoAge is how old the wish to undo something may get: what was right then
// need not be right now.
const undoAge = 5 * time.Minute

// Undo takes back what a decision changed, as a person asks, if that is still
// as the decision made it. It tells what became of that.
func (a *Actuator) Undo(ctx context.Context, m bus.Message[heal.Control]) error {
	c := m.Data
	if c.Verb != heal.TakeBack {
		return nil
	}
	log := a.log.With("decision_id", c.DecisionID, "by", c.By)
	if a.stopping.Err() != nil {
		return bus.Later(errStopping, time.Second)
	}
	key := "undo." + c.Head().ID
	held, err := a.claim(ctx, key)
	var busy errBusy
	switch {
	case errors.As(err, &busy):
		return bus.Later(err, min(busy.free, 5*time.Second)+time.Second)
	case err != nil:
		return bus.Later(err, again(m.Attempt))
	}
	if end := held.record().Ending; end != nil {
		return a.tellUndone(ctx, log, c, *end)
	}
	plan, err := a.undo(ctx, log, m, held)
	end, over := undone(err, time.Since(m.Stored))
	if !over {
		wait := again(m.Attempt)
		var later *action.Wait
		if errors.As(err, &later) {
			wait = later.For
		}
		if releaseErr := held.release(ctx, err); releaseErr != nil {
			err = errors.Join(err, releaseErr)
		}
		return bus.Later(err, wait)
	}
	if err := held.save(ctx, func(r *Record) { *r = Record{Started: r.Started, Renewed: r.Renewed, Ending: &end} }); err != nil {
		return bus.Later(err, time.Second)
	}
	if plan != nil && end.Outcome == heal.Succeeded {
		a.Events.put(plan.Decision, "undo", corev1.EventTypeNormal, end.Reason, end.Message)
	}
	return a.tellUndone(ctx, log, c, end)
}

// undone is how the wish ended, if it has.
func undone(err error, age time.Duration) (Ending, bool) {
	var wait *action.Wait
	var refusal *guard.Refusal
	switch {
	case err == nil:
		return Ending{Outcome: heal.Succeeded, Reason: "Undone", Message: "what the decision changed was taken back"}, true
	case errors.As(err, &wait) && age+wait.For < undoAge:
		return Ending{}, false
	case errors.As(err, &refusal):
		return Ending{Outcome: refusal.Outcome, Reason: refusal.Reason, Message: sentence("%s", refusal.Detail)}, true
	case age < undoAge:
		return Ending{}, false
	}
	return Ending{Outcome: heal.Failed, Reason: "UndoFailed", Message: sentence("it could not be taken back: %v", err)}, true
}

// undo does it.
func (a *Actuator) undo(ctx context.Context, log *slog.Logger, m bus.Message[heal.Control], held *claim) (*Plan, error) {
	refuse := func(reason, format string, args ...any) error {
		return guard.Refuse("undo", guard.Veto(reason, format, args...))
	}
	if age := time.Since(m.Stored); age > undoAge {
		return nil, refuse("Expired", "it was asked for %s ago: ask again if it is still wanted", age.Round(time.Second))
	}
	if a.DryRun {
		return nil, refuse("DryRun", "dry_run is set: nothing is changed")
	}
	rec, _, err := a.ledger.store.Get(ctx, m.Data.DecisionID)
	switch {
	case isNotFound(err):
		return nil, refuse("NothingToUndo", "no decision of that id was carried out within the last 30 days")
	case err != nil:
		return nil, err
	case rec.Ending == nil:
		return nil, refuse("StillUnderWay", "the decision is still being carried out; `selfheal pause` stops it")
	case rec.Plan == nil:
		return nil, refuse("NothingToUndo", "the decision ended with %s, %s, and left nothing that could be taken back", rec.Ending.Outcome, rec.Ending.Reason)
	}
	d := rec.Plan.Decision
	act, refusal := action.Find(action.Default, d)
	if refusal != nil || act.Undo == nil {
		return nil, refuse("NothingToUndo", "%s of %s cannot be taken back by this version", d.Strategy, d.Target)
	}
	job := a.job(d)
	j := &judge{decision: d, made: m.Time, expires: m.Stored.Add(undoAge), reader: a.reader, brake: a.Brake, log: log, job: job, mode: heal.ModeAuto, approved: true}
	if _, err := a.Brake.Check(ctx); err != nil {
		return nil, err
	}
	if job.Facts, err = a.reader.Facts(ctx, d, d.Target); err != nil {
		return nil, err
	}
	job.Facts.Mode, job.Facts.Approved = heal.ModeAuto, true // a person asks for it
	if _, refusal := guard.Judge(job.Facts, guard.Undone); refusal != nil {
		return nil, refusal
	}
	held.note(func(r *Record) { r.Memory = rec.Plan.Memory })
	job.Desk = undoDesk{&desk{judge: j, claim: held, spending: a.spending, timeout: a.RecoveryTimeout, begin: func() {}}}
	return rec.Plan, act.Undo(ctx, job)
}

// An undoDesk is a desk that tries each request first, though it takes a change
// of ours back: a person waits for the answer, and nobody is hurt by a no.
type undoDesk struct{ *desk }

// Do implements action.Desk.
func (d undoDesk) Do(ctx context.Context, r action.Request) error {
	if d.claim.record().find(r.Step+" "+r.Target.UID) == nil {
		if err := d.try(ctx, r); err != nil {
			return err
		}
	}
	return d.desk.Do(ctx, r)
}

// tellUndone tells what became of it. Telling twice is telling once.
func (a *Actuator) tellUndone(ctx context.Context, log *slog.Logger, asked heal.Control, end Ending) error {
	log.Info("undo ended", "outcome", string(end.Outcome), "reason", end.Reason, "message", end.Message)
	err := a.tellControl(ctx, heal.Control{
		Verb: heal.TakenBack, By: heal.FieldManager, At: asked.At, DecisionID: asked.DecisionID,
		Outcome: end.Outcome, Reason: end.Reason + ": " + end.Message,
	})
	if err != nil && !bus.IsPermanent(err) {
		return bus.Later(err, time.Second)
	}
	return err
}
