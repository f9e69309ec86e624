package actuate

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

const (
	evidencePatience = 3 * time.Second        // what is waited for it at most, before a change
	urgentPatience   = 500 * time.Millisecond // and before one that is urgent
	evidenceAge      = 20 * time.Second       // how old a decision may get for want of it
)

// A keeping is the evidence for one decision, which is gathered while its first
// request is tried.
type keeping struct {
	decision heal.Decision
	made     time.Time
	cancel   func()
	done     chan struct{}
	kept     *heal.Kept // when done; nil if it could not be kept
	missing  int
	err      error
}

// keep begins to gather evidence about the object of the facts, until stop is
// called.
func (a *Actuator) keep(ctx context.Context, d heal.Decision, made time.Time, f guard.Facts) *keeping {
	ctx, cancel := context.WithCancel(ctx)
	k := &keeping{decision: d, made: made, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(k.done)
		k.kept, k.missing, k.err = store(ctx, a.reader, a.evidence, d, f)
	}()
	return k
}

// stop ends the gathering, and waits for that.
func (k *keeping) stop() {
	k.cancel()
	<-k.done
}

func store(ctx context.Context, r live.Reader, objects *bus.Objects, d heal.Decision, f guard.Facts) (*heal.Kept, int, error) {
	e := r.Evidence(ctx, d, f)
	data, err := json.Marshal(e)
	if err != nil {
		return nil, 0, err
	}
	if err := objects.Put(ctx, d.ID, data); err != nil {
		return nil, 0, err
	}
	return &heal.Kept{Bucket: bus.EvidenceBucket.Name, Object: d.ID, Bytes: len(data)}, len(e.Missing), nil
}

// wait returns once the evidence is kept, or a *action.Wait if that fails and
// the change may be made later as well. What is urgent is not held up.
func (k *keeping) wait(ctx context.Context, c *claim) error {
	ctx, end := span(ctx, "evidence")
	defer end()
	urgent := k.decision.Severity == heal.Critical
	patience := evidencePatience
	if urgent {
		patience = urgentPatience
	}
	timer := time.NewTimer(patience)
	defer timer.Stop()
	step := heal.Step{Name: "evidence", Status: heal.StepFailed}
	select {
	case <-k.done:
	case <-timer.C:
		step.Detail = fmt.Sprintf("not kept within %s", patience)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var kept *heal.Kept
	switch {
	case step.Detail != "":
	case k.err != nil:
		step.Detail = sentence("not kept: %v", k.err)
	default:
		kept = k.kept
		step.Status, step.Detail = heal.StepOK, fmt.Sprintf("%d bytes, %d parts are missing", kept.Bytes, k.missing)
	}
	if kept == nil && !urgent && time.Since(k.made) < evidenceAge {
		return &action.Wait{For: 3 * time.Second, Refusal: guard.Refuse("evidence", guard.Veto("EvidenceNotKept", "what it looked like before was %s", step.Detail))}
	}
	c.note(func(r *Record) {
		r.Kept = kept
		r.put(Step{Step: step})
	})
	return nil
}
