package actuate

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

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

// sentence is a message for people: no longer than one reads at night, and
// free of what a foreign text may bring along.
func sentence(format string, args ...any) string {
	return heal.Clean(strings.TrimSpace(fmt.Sprintf(format, args...)), 4*heal.MaxText)
}
