// Package verify judges on the live cluster whether a recovery helped.
//
// An accepted request proves nothing: a pod that is made anew looks well for
// the ten seconds until it crashes again. A recovery has succeeded when its
// sight was good, without a break, for a whole window. The judgements are pure
// functions over gathered facts; Wait is the only part with a clock, and looks
// only when something changed.
package verify

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A State is what one look at the cluster says about a recovery.
type State string

// The states.
const (
	Pending State = "pending" // neither helped nor failed yet
	Good    State = "good"    // helped, if it stays so
	Bad     State = "bad"     // did not help, and waiting cannot change that
	Moot    State = "moot"    // nobody wants it any more
)

// A Sight is one look.
type Sight struct {
	State   State
	Reason  string // how the decision ends if this is the last look
	Message string // for people
	Checks  []heal.Check

	// Subject is what was good, such as a pod and its restarts: when it
	// changes, the window begins again.
	Subject string

	// Late is how the decision ends when the time is over in this state; a
	// Pending sight without it has timed out.
	Late *Conclusion
}

// A Conclusion is how a recovery turned out.
type Conclusion struct {
	Outcome heal.Outcome
	Reason  string
	Message string
	Checks  []heal.Check
}

// Progress is what a verification that is taken over must know.
type Progress struct {
	Subject string    `json:"subject,omitempty"`
	Since   time.Time `json:"since,omitzero"` // when Subject was first seen good
}

// Plan says how long to look, and how.
type Plan struct {
	Window   time.Duration // how long it must stay good
	Deadline time.Time     // when to give up
	Poll     time.Duration // look again this often although nothing changed; default 5 s
	Settle   time.Duration // looks are at least so far apart; default 250 ms

	Look   func(context.Context) (Sight, error)
	Follow func(context.Context, chan<- struct{}) // sends when it is worth a look, until its context is done; may be nil
	Keep   func(Progress)                         // called when the progress changes; may be nil
}

// Wait looks until the recovery is proven, refuted or out of time. It returns
// an error only when ctx is done: a look that fails is tried again.
func Wait(ctx context.Context, p Plan, done Progress) (Conclusion, error) {
	if p.Poll <= 0 {
		p.Poll = 5 * time.Second
	}
	if p.Settle <= 0 {
		p.Settle = 250 * time.Millisecond
	}
	changed := make(chan struct{}, 1) // one is enough: it says that, not what
	if p.Follow != nil {
		following, stop := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() { p.Follow(following, changed) })
		defer wg.Wait()
		defer stop()
	}
	var last Sight
	var failed error
	for {
		sight, err := p.Look(ctx)
		if ctx.Err() != nil {
			return Conclusion{}, context.Cause(ctx)
		}
		now := time.Now()
		failed = err
		next := now.Add(p.Poll)
		if err == nil {
			last = sight
			progress := done.next(sight, now)
			if progress != done && p.Keep != nil {
				p.Keep(progress)
			}
			done = progress
			if c, over := conclude(sight, done, p.Window, now); over {
				return c, nil
			}
			if end := done.Since.Add(p.Window); !done.Since.IsZero() && end.Before(next) {
				next = end
			}
		}
		if !now.Before(p.Deadline) {
			return late(last, failed), nil
		}
		if p.Deadline.Before(next) {
			next = p.Deadline
		}
		if err := rest(ctx, now.Add(p.Settle), next, changed); err != nil {
			return Conclusion{}, err
		}
	}
}

// rest returns when something changed, but not before earliest, and at latest
// whether anything did or not.
func rest(ctx context.Context, earliest, latest time.Time, changed <-chan struct{}) error {
	timer := time.NewTimer(max(time.Until(latest), time.Millisecond))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-changed:
	}
	if latest.Before(earliest) {
		earliest = latest
	}
	timer.Reset(max(time.Until(earliest), time.Millisecond))
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// next is the progress after a look at now.
func (p Progress) next(s Sight, now time.Time) Progress {
	switch {
	case s.State != Good:
		return Progress{}
	case p.Since.IsZero(), p.Subject != s.Subject:
		return Progress{Subject: s.Subject, Since: now}
	}
	return p
}

// conclude reports whether the sight ends the wait, and how.
func conclude(s Sight, p Progress, window time.Duration, now time.Time) (Conclusion, bool) {
	c := Conclusion{Reason: s.Reason, Message: s.Message, Checks: s.Checks}
	switch s.State {
	case Bad:
		c.Outcome = heal.Failed
		return c, true
	case Moot:
		c.Outcome = heal.Skipped
		return c, true
	case Good:
		held := now.Sub(p.Since)
		if held < window {
			return Conclusion{}, false
		}
		c.Outcome = heal.Succeeded
		c.Checks = append(c.Checks, heal.Check{
			Name: "stable", Passed: true,
			Observed: fmt.Sprintf("for %s, %s wanted", held.Round(time.Second), window),
		})
		return c, true
	}
	return Conclusion{}, false
}

// late is the conclusion when the time is over.
func late(s Sight, failed error) Conclusion {
	if s.Late != nil && failed == nil {
		c := *s.Late
		c.Checks = s.Checks
		return c
	}
	c := Conclusion{Outcome: heal.TimedOut, Reason: "VerificationTimedOut", Checks: s.Checks}
	switch {
	case failed != nil:
		c.Message = fmt.Sprintf("the cluster could not be looked at: %v", failed)
	case s.State == Good:
		c.Message = s.Message + ", but not for long enough yet"
		c.Checks = append(c.Checks, heal.Check{Name: "stable", Passed: false, Observed: "not for long enough"})
	default:
		c.Message = s.Message
	}
	return c
}
