package actuate

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// A judge decides, for one decision, whether a request may be made now. It is
// the half of a desk that changes nothing.
type judge struct {
	decision heal.Decision
	made     time.Time
	expires  time.Time
	mode     heal.Mode // the decision's or ours, whichever is tighter
	approved bool      // a person has agreed
	reader   live.Reader
	brake    *Brake
	log      *slog.Logger
	job      *action.Job // whose facts are kept up to date
	first    *glance     // read while the decision was claimed; nil for none, or once it was used
	judged   time.Time   // when the guards last had nothing against it
}

// inTime refuses what comes too late.
func (j *judge) inTime() error {
	now := time.Now()
	if now.Before(j.expires) {
		return nil
	}
	return expired(now, j.made, j.expires)
}

func expired(now, made, expires time.Time) *guard.Refusal {
	return guard.Refuse("expiry", guard.Veto("Expired", "the decision was made %s ago and expired %s ago; if it is still broken, it is decided again",
		now.Sub(made).Round(time.Second), now.Sub(expires).Round(time.Second)))
}

// Recheck implements action.Desk.
func (j *judge) Recheck(ctx context.Context, within time.Duration) error {
	begin := time.Now()
	if begin.Sub(j.judged) < within {
		return j.brake.paused()
	}
	mode, facts, begin, err := j.look(ctx, begin)
	if err != nil {
		return err
	}
	facts.Mode, facts.Approved = j.mode.Tighter(mode), j.approved
	j.job.Facts = facts
	said, refusal := guard.Judge(facts, guard.Decided)
	for _, v := range said {
		j.log.Debug("guard asked", "guard", v.Name, "allowed", v.Allowed, "reason", v.Reason, "detail", v.Detail)
	}
	if refusal != nil {
		return action.Refused(refusal)
	}
	j.judged = begin
	return nil
}

// look returns what the first glance has seen, if that is fresh, or looks anew;
// and when that look began.
func (j *judge) look(ctx context.Context, now time.Time) (heal.Mode, guard.Facts, time.Time, error) {
	first := j.first
	j.first = nil
	if first.seen(ctx) && time.Since(first.began) < fresh && j.brake.paused() == nil {
		return first.mode, first.facts, first.began, nil
	}
	mode, facts, err := look(ctx, j.brake, j.reader, j.decision)
	return mode, facts, now, err
}

// try makes the request without effect.
func (j *judge) try(ctx context.Context, r action.Request) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ctx, end := span(ctx, "try")
	defer end()
	err := r.Send(ctx, []string{metav1.DryRunAll})
	var refusal *guard.Refusal
	if err == nil || errors.As(err, &refusal) || errors.Is(err, action.ErrMoved) {
		return err
	}
	return fmt.Errorf("try to %s %s: %w", r.Step, r.Target, err)
}
