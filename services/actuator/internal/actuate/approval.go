package actuate

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// An Asked is a decision that waits for a person. It holds all of the message,
// because the answer, not the decision, is what comes next.
type Asked struct {
	Decision heal.Decision `json:"decision"`
	Made     time.Time     `json:"made"`
	Stored   time.Time     `json:"stored"`
	Attempt  uint64        `json:"attempt"`
}

// message is the decision as it was delivered.
func (a Asked) message() bus.Message[heal.Decision] {
	return bus.Message[heal.Decision]{
		Event: heal.Event[heal.Decision]{Data: a.Decision, Time: a.Made}, Attempt: a.Attempt, Stored: a.Stored,
	}
}

// An Answer is what a person said to a decision.
type Answer struct {
	heal.Approval
	Stored time.Time `json:"stored"`
}

// answer is the record's, if it was given after the decision was stored: an
// approval of something that was yet to be decided is none.
func (r Record) answer(stored time.Time) *Answer {
	if r.Answer == nil || r.Answer.Stored.Before(stored) {
		return nil
	}
	return r.Answer
}

// noted puts the answer into the steps of the result, and returns the refusal
// that it may be.
func (a Answer) noted(c *claim) *guard.Refusal {
	verb, status := "approved", heal.StepOK
	if !a.Approved {
		verb, status = "denied", heal.StepFailed
	}
	said := sentence("%s by %s at %s", verb, a.By, a.At.UTC().Format(time.RFC3339))
	if a.Reason != "" {
		said = sentence("%s: %s", said, a.Reason)
	}
	c.note(func(r *Record) { r.put(Step{Step: heal.Step{Name: "approval", Status: status, Detail: said}}) })
	if a.Approved {
		return nil
	}
	return guard.Refuse("approval", guard.Veto("ApprovalDenied", "%s", said))
}

// expires is when the decision is too old to be carried out, whatever it says
// itself. A person gets more time than a machine.
func (a *Actuator) expires(m bus.Message[heal.Decision], rec Record) time.Time {
	age := a.MaxAge
	if rec.Asked != nil || rec.Answer != nil || m.Data.Mode.Tighter(a.Mode) == heal.ModeApprove {
		age = max(age, a.ApprovalTime)
	}
	return earlier(m.Data.Expires, earlier(m.Time, m.Stored).Add(age))
}

// needsApproval returns the refusal that makes a decision wait for a person,
// or nil if err is another.
func needsApproval(err error) *guard.Refusal {
	var refusal *guard.Refusal
	if errors.As(err, &refusal) && refusal.Reason == guard.ApprovalNeeded {
		return refusal
	}
	return nil
}

// errAsked says that a decision waits for a person.
var errAsked = errors.New("a person has to agree")

// ask writes down that the decision waits for a person. It comes again now and
// then, to see whether it is still needed, and when its time is over.
func (a *Actuator) ask(ctx context.Context, log *slog.Logger, m bus.Message[heal.Decision], c *claim, why *guard.Refusal) error {
	first := c.record().Asked == nil
	err := c.save(ctx, func(r *Record) {
		r.Owner, r.Steps = "", nil // what was judged then is judged again
		r.Asked = cmp.Or(r.Asked, &Asked{Decision: m.Data, Made: m.Time, Stored: m.Stored, Attempt: m.Attempt})
	})
	if err != nil {
		return bus.Later(err, time.Second)
	}
	expires := a.expires(m, c.record())
	if first {
		log.Info("decision waits for a person", "why", why.Detail, "expires", expires)
		a.Events.Asks(m.Data, why.Detail, expires)
	}
	return bus.Later(errAsked, min(a.ApprovalLook, max(time.Until(expires), 0)+100*time.Millisecond))
}

// unanswered is why a decision ends to which nobody said anything: late, or
// because it was not needed any more.
func unanswered(ctx context.Context, j *judge, late *guard.Refusal) *guard.Refusal {
	var refusal *guard.Refusal
	if err := j.Recheck(ctx, 0); errors.As(err, &refusal) && refusal.Outcome == heal.Skipped {
		return refusal
	}
	return guard.Refuse("approval", guard.Veto("ApprovalNotGiven", "nobody agreed in time: %s", late.Detail))
}

// Answer takes what a person said, and carries the decision out if it waits for
// that. The first answer counts.
func (a *Actuator) Answer(ctx context.Context, m bus.Message[heal.Approval]) error {
	id := m.Data.DecisionID
	log := a.log.With("decision_id", id, "by", m.Data.By, "approved", m.Data.Approved)
	if a.stopping.Err() != nil {
		return bus.Later(errStopping, time.Second)
	}
	c, err := a.claim(ctx, id)
	if err != nil && time.Since(m.Stored) > a.ApprovalTime {
		log.Warn("answer comes to nothing", "err", err)
		return nil
	}
	var busy errBusy
	switch {
	case errors.As(err, &busy):
		return bus.Later(err, min(busy.free, 5*time.Second)+time.Second)
	case err != nil:
		return bus.Later(err, again(m.Attempt))
	}
	rec := c.record()
	if rec.Ending != nil {
		log.Info("answer comes too late", "outcome", string(rec.Ending.Outcome), "reason", rec.Ending.Reason)
		return nil
	}
	since := time.Time{}
	if rec.Asked != nil {
		since = rec.Asked.Stored
	}
	if rec.answer(since) == nil {
		log.Info("answer taken", "reason", m.Data.Reason)
	}
	err = c.save(ctx, func(r *Record) {
		if r.answer(since) == nil {
			r.Answer = &Answer{Approval: m.Data, Stored: m.Stored}
		}
		if r.Asked == nil {
			r.Owner = "" // the decision finds the answer when it comes
		}
	})
	if err != nil {
		return bus.Later(err, time.Second)
	}
	if rec.Asked == nil {
		return nil
	}
	log = log.With("incident_id", rec.Asked.Decision.IncidentID, "target", rec.Asked.Decision.Target.String(), "strategy", string(rec.Asked.Decision.Strategy))
	return a.work(ctx, log, rec.Asked.message(), c, nil)
}

// isBraked reports whether err says that nothing may be changed at all.
func isBraked(err error) bool {
	var refusal *guard.Refusal
	return errors.As(err, &refusal) && refusal.Guard == guard.Brake
}
