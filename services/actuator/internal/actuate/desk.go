package actuate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// fresh is how old the guards' verdict may be when a request is made: what a
// person holds by a mark has to be left alone within 2 s.
const fresh = time.Second

// callTimeout is for one request, a little more than the client's own.
const callTimeout = 15 * time.Second

// A desk is the action.Desk of a job that changes the cluster.
type desk struct {
	*judge
	claim    *claim
	spending *spending
	begin    func() // called before the first request is made
	node     string // which node the job takes out of service; empty for none
	timeout  time.Duration
	keeping  *keeping // what must be kept before the first request; nil for nothing
}

// LastWrite implements action.Desk.
func (d *desk) LastWrite() time.Time { return earlier(d.expires, d.deadline()) }

// deadline is when the recovery is given up.
func (d *desk) deadline() time.Time {
	began := d.claim.record().Acted
	if began.IsZero() {
		began = time.Now()
	}
	return began.Add(d.timeout)
}

// Do implements action.Desk.
func (d *desk) Do(ctx context.Context, r action.Request) error {
	key := r.Step + " " + r.Target.UID
	rec := d.claim.record()
	step := rec.find(key)
	if step != nil {
		if step.State == done {
			return nil
		}
		seen, err := r.Seen(ctx)
		if err != nil {
			return err
		}
		if seen {
			return d.done(ctx, r, key, 0, "done by an attempt that ended before it could say so")
		}
	}
	if !r.Heal {
		if err := d.mayStart(ctx, r, rec.acted()); err != nil {
			return err
		}
	}
	last, err := d.intend(ctx, r, key)
	if err != nil {
		return err
	}
	crash.At(crash.BeforeAPI)
	return d.send(ctx, r, key, last)
}

// mayStart tries the request without effect, and asks everybody who may say no.
func (d *desk) mayStart(ctx context.Context, r action.Request, acted bool) error {
	if err := d.inTime(); err != nil {
		return err
	}
	if err := d.Recheck(ctx, fresh); err != nil {
		return err
	}
	var beside error
	var aside sync.WaitGroup
	if r.Beside != nil {
		aside.Go(func() {
			ctx, end := span(ctx, "remember")
			defer end()
			beside = r.Beside(ctx)
		})
	}
	err := d.try(ctx, r)
	aside.Wait()
	if err != nil {
		return err
	}
	if beside != nil {
		return beside
	}
	crash.At(crash.AfterDryRun)
	if err := d.spend(ctx, r); err != nil {
		return err
	}
	if d.keeping != nil && !acted {
		return d.keeping.wait(ctx, d.claim)
	}
	return nil
}

// spend takes from the budgets what the request costs.
func (d *desk) spend(ctx context.Context, r action.Request) error {
	ctx, end := span(ctx, "spend")
	defer end()
	if r.Pod {
		if err := d.spending.target(ctx, d.decision.ID, r.Target.UID); err != nil {
			return err
		}
		return d.spending.pod(ctx, r.Target.Namespace)
	}
	if r.Rollback != "" {
		return d.spending.rollback(ctx, d.decision.ID, r.Target, r.Rollback)
	}
	if d.node != "" {
		return d.spending.node(ctx, d.decision.ID, d.node)
	}
	return nil
}

// A last look at the brake, and what it said.
type lastLook struct {
	began time.Time
	err   error
}

// intend writes down that the request is about to be made, and asks the brake
// meanwhile.
func (d *desk) intend(ctx context.Context, r action.Request, key string) (lastLook, error) {
	ctx, end := span(ctx, "intend")
	defer end()
	last := lastLook{began: time.Now()}
	var asked sync.WaitGroup
	asked.Go(func() { _, last.err = d.brake.Check(ctx) })
	counted := d.claim.record().Counted
	err := d.claim.save(ctx, func(rec *Record) {
		if !rec.changed() {
			rec.Acted = time.Now().UTC()
		}
		rec.put(Step{Step: heal.Step{Name: r.Step, Status: heal.StepFailed, Detail: r.Target.String() + ": not known to be done"}, Key: key, State: intended})
		rec.Counted = true
	})
	if err == nil && !counted {
		d.begin()
	}
	asked.Wait()
	return last, err
}

// send makes the request. From here on nothing but its timeout stops it: what
// is half done is worse than what is late.
func (d *desk) send(ctx context.Context, r action.Request, key string, last lastLook) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
	defer cancel()
	if err := d.stillOurs(ctx, r, last); err != nil {
		return d.notMade(ctx, key, err)
	}
	sent := time.Now()
	calling, end := span(ctx, "send")
	err := r.Send(calling, nil)
	end()
	if unknown(err) {
		if seen, seeErr := r.Seen(ctx); seeErr != nil || !seen {
			return fmt.Errorf("%s %s: %w", r.Step, r.Target, err)
		}
		err = nil
	}
	if err != nil {
		return d.notMade(ctx, key, err)
	}
	crash.At(crash.AfterAPIBeforeRecord)
	return d.done(ctx, r, key, time.Since(sent), r.Target.String())
}

// notMade takes the intent back, and returns why.
func (d *desk) notMade(ctx context.Context, key string, why error) error {
	if err := d.claim.save(ctx, func(rec *Record) { rec.drop(key) }); err != nil {
		return errors.Join(why, err)
	}
	return why
}

// lastLookAge is how old the last look at the brake may be.
const lastLookAge = 250 * time.Millisecond

// stillOurs asks the brake once more if the last look at it is not of just now,
// and looks at the clock, for a process may have been stopped for long between
// any two instructions.
func (d *desk) stillOurs(ctx context.Context, r action.Request, last lastLook) error {
	if time.Since(last.began) > lastLookAge {
		_, last.err = d.brake.Check(ctx)
	}
	if last.err != nil {
		return last.err
	}
	if err := d.brake.paused(); err != nil {
		return err
	}
	if r.Heal {
		return nil
	}
	if !d.claim.held(d.claim.lease / 3) {
		return &action.Wait{For: time.Second, Refusal: guard.Refuse("claim", guard.Veto("Stalled", "%s was not made: the actuator stood still before it", r.Step))}
	}
	return d.inTime()
}

func (d *desk) done(ctx context.Context, r action.Request, key string, took time.Duration, detail string) error {
	return d.claim.save(ctx, func(rec *Record) {
		rec.put(Step{Step: heal.Step{Name: r.Step, Status: heal.StepOK, Milliseconds: milliseconds(took), Detail: detail}, Key: key, State: done})
	})
}

// unknown reports whether err leaves open what became of the request: the API
// server gave no answer, or one that is not about the request.
func unknown(err error) bool {
	var refusal *guard.Refusal
	if err == nil || errors.As(err, &refusal) {
		return false
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return !errors.Is(err, action.ErrMoved)
	}
	return status.Status().Code >= 500 || status.Status().Code == 0
}

// Note implements action.Desk.
func (d *desk) Note(step heal.Step) {
	d.claim.note(func(r *Record) { r.put(Step{Step: step}) })
}

// Remember implements action.Desk.
func (d *desk) Remember(v any) {
	data, err := json.Marshal(v)
	if err != nil {
		return // only of types that JSON cannot hold
	}
	d.claim.note(func(r *Record) { r.Memory = data })
}

// Recall implements action.Desk.
func (d *desk) Recall(v any) bool {
	rec := d.claim.record()
	return len(rec.Memory) > 0 && json.Unmarshal(rec.Memory, v) == nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
