package actuate

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
)

// A dryDesk is the action.Desk of a job that changes nothing.
type dryDesk struct {
	*judge

	mu     sync.Mutex // guards what follows
	steps  []heal.Step
	memory []byte
}

// LastWrite implements action.Desk.
func (d *dryDesk) LastWrite() time.Time { return d.expires }

// Do implements action.Desk.
func (d *dryDesk) Do(ctx context.Context, r action.Request) error {
	if err := d.inTime(); err != nil {
		return err
	}
	if err := d.Recheck(ctx, fresh); err != nil {
		return err
	}
	begin := time.Now()
	if err := d.try(ctx, r); err != nil {
		return err
	}
	d.Note(heal.Step{Name: r.Step, Status: heal.StepOK, Milliseconds: milliseconds(time.Since(begin)), Detail: r.Target.String() + ": dry run"})
	return nil
}

// Note implements action.Desk.
func (d *dryDesk) Note(step heal.Step) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.steps = append(d.steps, step)
}

// Remember implements action.Desk.
func (d *dryDesk) Remember(v any) {
	data, err := json.Marshal(v)
	if err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.memory = data
}

// Recall implements action.Desk.
func (d *dryDesk) Recall(v any) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.memory) > 0 && json.Unmarshal(d.memory, v) == nil
}
