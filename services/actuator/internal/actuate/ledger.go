package actuate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/verify"
)

// A Record is what the ledger knows of one decision. It makes work go on where
// it stopped, and keeps a decision from being carried out by two at once. It
// is not what makes that safe: the preconditions of the requests are.
type Record struct {
	Owner   string    `json:"owner,omitempty"`  // the attempt at work; empty for none
	Renewed time.Time `json:"renewed,omitzero"` // when Owner last said so
	Started time.Time `json:"started"`

	Steps    []Step             `json:"steps,omitempty"`
	Acted    time.Time          `json:"acted,omitzero"`    // the first request that changed, or may have changed, anything
	Counted  bool               `json:"counted,omitempty"` // the attempt is in the metrics
	Memory   json.RawMessage    `json:"memory,omitempty"`
	Progress verify.Progress    `json:"progress,omitzero"`
	Serving  *verify.Serving    `json:"serving,omitempty"` // what it served before; nil if that is not known
	Kept     *heal.Kept         `json:"kept,omitempty"`    // the evidence
	Verdict  *verify.Conclusion `json:"verdict,omitempty"` // how it turned out; what follows is to settle
	Trouble  string             `json:"trouble,omitempty"` // why the last attempt ended early

	Asked  *Asked  `json:"asked,omitempty"`  // set once the decision waits for a person
	Answer *Answer `json:"answer,omitempty"` // what the person said

	Plan   *Plan   `json:"plan,omitempty"`   // how to take back what was done; nil if it cannot be
	Ending *Ending `json:"ending,omitempty"` // set once, at the end
	Told   bool    `json:"told,omitempty"`   // the result is published; the ending is then only a stub
}

// A Step is a step of the result, and for a request how far it got.
type Step struct {
	heal.Step
	Key   string `json:"key,omitempty"`   // what makes the request this one; empty for a note
	State string `json:"state,omitempty"` // of a request
}

// The states of a request. An intended one may or may not have been made.
const (
	intended = "intended"
	done     = "done"
)

// An Ending is a result without its decision, which the message brings along.
type Ending struct {
	Outcome      heal.Outcome       `json:"outcome"`
	Reason       string             `json:"reason"`
	Message      string             `json:"message,omitempty"`
	Attempt      int                `json:"attempt,omitempty"`
	Started      time.Time          `json:"started,omitzero"`
	Duration     float64            `json:"duration,omitempty"`
	Steps        []heal.Step        `json:"steps,omitempty"`
	Verification *heal.Verification `json:"verification,omitempty"`
	Undo         *heal.Undo         `json:"undo,omitempty"`
	DryRun       bool               `json:"dry_run,omitempty"`
	Evidence     *heal.Kept         `json:"evidence,omitempty"`
}

// A Store holds values by key; *bus.Store is one.
type Store[V any] interface {
	Get(ctx context.Context, key string) (V, uint64, error)
	Create(ctx context.Context, key string, v V) (uint64, error)
	Update(ctx context.Context, key string, v V, rev uint64) (uint64, error)
}

// A ledger hands out claims.
type ledger struct {
	store Store[Record]
	lease time.Duration // a claim that was not renewed for so long may be taken over
}

// errBusy says that somebody else is at work on the decision.
type errBusy struct {
	owner string
	free  time.Duration // when the claim is stale, if it is not renewed
	asked bool          // the decision waits, or waited, for a person
}

func (e errBusy) Error() string { return fmt.Sprintf("%s is at work on it", e.owner) }

// errLost says that somebody else took the claim over.
var errLost = errors.New("the claim was taken over")

// claim takes the decision for owner. Its record may hold an ending already,
// and then nothing is left to do but to tell.
func (l ledger) claim(ctx context.Context, id, owner string) (*claim, error) {
	now := time.Now().UTC()
	rec := Record{Owner: owner, Renewed: now, Started: now}
	rev, err := l.store.Create(ctx, id, rec)
	if errors.Is(err, bus.ErrConflict) {
		rec, rev, err = l.takeOver(ctx, id, owner, now)
	}
	if err != nil {
		return nil, fmt.Errorf("claim %s: %w", id, err)
	}
	c := &claim{ledger: l, id: id, owner: owner, turn: make(chan struct{}, 1), rec: rec, rev: rev, renewed: time.Now()}
	return c, nil
}

func (l ledger) takeOver(ctx context.Context, id, owner string, now time.Time) (Record, uint64, error) {
	rec, rev, err := l.store.Get(ctx, id)
	if err != nil || rec.Ending != nil {
		return rec, rev, err
	}
	if age := now.Sub(rec.Renewed); rec.Owner != "" && age < l.lease {
		return rec, 0, errBusy{rec.Owner, l.lease - max(0, age), rec.Asked != nil}
	}
	rec.Owner, rec.Renewed = owner, now
	rev, err = l.store.Update(ctx, id, rec, rev)
	if errors.Is(err, bus.ErrConflict) {
		return rec, 0, errBusy{"somebody else", l.lease, rec.Asked != nil}
	}
	return rec, rev, err
}

// alive reports whether somebody is, or soon will be, at work on a decision.
func (l ledger) alive(ctx context.Context, id string) (bool, error) {
	rec, _, err := l.store.Get(ctx, id)
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	const redelivery = time.Minute // after which a decision whose worker died has come again
	return rec.Ending == nil && time.Since(rec.Renewed) < l.lease+redelivery, nil
}

// A claim is the right to work on one decision, and its record.
type claim struct {
	ledger
	id    string
	owner string

	turn chan struct{} // held while the record is written: each write names the one before
	rev  uint64        // of the last write; by turn

	mu      sync.Mutex // guards what follows
	rec     Record
	renewed time.Time // by our own clock, which goes on while a process is stopped
}

// record is the record as it is now.
func (c *claim) record() Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	rec := c.rec
	rec.Steps = slices.Clone(rec.Steps)
	return rec
}

// note changes the record without writing it; the next save does.
func (c *claim) note(change func(*Record)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rec.Steps = slices.Clone(c.rec.Steps)
	change(&c.rec)
}

// held reports whether the claim was renewed not longer than d ago.
func (c *claim) held(d time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.renewed) < d
}

// save changes the record and writes it, which renews the claim. It returns
// errLost if somebody else has written it.
func (c *claim) save(ctx context.Context, change func(*Record)) error {
	select {
	case c.turn <- struct{}{}:
		defer func() { <-c.turn }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	begin := time.Now()
	c.note(func(r *Record) {
		r.Renewed = begin.UTC()
		change(r)
	})
	rec := c.record()
	rev, err := c.store.Update(ctx, c.id, rec, c.rev)
	if errors.Is(err, bus.ErrConflict) {
		rev, err = c.again(ctx, rec)
	}
	if err != nil {
		return fmt.Errorf("record %s: %w", c.id, err)
	}
	c.rev = rev
	c.mu.Lock()
	defer c.mu.Unlock()
	c.renewed = begin
	return nil
}

// again writes rec after a conflict, if that was with a write of our own whose
// answer was lost.
func (c *claim) again(ctx context.Context, rec Record) (uint64, error) {
	have, rev, err := c.store.Get(ctx, c.id)
	if err != nil {
		return 0, err
	}
	if have.Owner != c.owner {
		return 0, errLost
	}
	rev, err = c.store.Update(ctx, c.id, rec, rev)
	if errors.Is(err, bus.ErrConflict) {
		return 0, errLost
	}
	return rev, err
}

// keep renews the claim until ctx is done, and calls lost when it cannot be
// renewed because it is somebody else's.
func (c *claim) keep(ctx context.Context, lost func(error)) {
	tick := time.NewTicker(c.lease / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if c.held(c.lease / 8) {
			continue // another write has just renewed it
		}
		// Any other error passes, or makes the next request fail.
		if err := c.save(ctx, func(*Record) {}); errors.Is(err, errLost) {
			lost(err)
			return
		}
	}
}

// release lets the next attempt begin at once, and tells it what went wrong.
func (c *claim) release(ctx context.Context, trouble error) error {
	return c.save(ctx, func(r *Record) {
		r.Owner = ""
		r.Trouble = heal.Clean(trouble.Error(), heal.MaxText)
	})
}

// find returns the request with the key.
func (r Record) find(key string) *Step {
	i := slices.IndexFunc(r.Steps, func(s Step) bool { return s.Key == key && key != "" })
	if i < 0 {
		return nil
	}
	return &r.Steps[i]
}

// put adds a step, or replaces the one with its key or, for a note, its name.
func (r *Record) put(s Step) {
	i := slices.IndexFunc(r.Steps, func(old Step) bool { return old.Key == s.Key && (s.Key != "" || old.Name == s.Name) })
	if i < 0 {
		r.Steps = append(r.Steps, s)
		return
	}
	r.Steps[i] = s
}

// drop forgets a request that turned out not to be made.
func (r *Record) drop(key string) {
	r.Steps = slices.DeleteFunc(r.Steps, func(s Step) bool { return s.Key == key })
	if !r.acted() {
		r.Acted = time.Time{}
	}
}

// changed reports whether a request was made.
func (r Record) changed() bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool { return s.State == done })
}

// acted reports whether a request was made, or may have been.
func (r Record) acted() bool {
	return slices.ContainsFunc(r.Steps, func(s Step) bool { return s.Key != "" })
}
