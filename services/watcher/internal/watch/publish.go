package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// attemptLimit is how long one key may take; an orderly end waits for it.
const attemptLimit = 15 * time.Second

// work settles keys until ctx is done, several at once, but never the same.
func (w *Watcher) work(ctx context.Context) {
	if !w.maySpeak(ctx) {
		return
	}
	var working errgroup.Group
	defer func() { _ = working.Wait() }() // begun is finished
	working.SetLimit(workers)
	for {
		next, ended := w.queue.Get()
		if ended || ctx.Err() != nil {
			return // what is left is found again after a restart
		}
		working.Go(func() error {
			w.attempt(ctx, next)
			return nil
		})
	}
}

// attempt settles a key, or has it come again later. The end of ctx does not
// tear a record from its message.
func (w *Watcher) attempt(ctx context.Context, t turn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptLimit)
	defer cancel()
	err := w.settle(ctx, t.Key)
	if err != nil {
		w.queue.AddRateLimited(t)
	} else {
		w.queue.Forget(t)
	}
	w.queue.Done(t)
	w.report(err)
}

// report logs the first error of a series, and its end.
func (w *Watcher) report(err error) {
	switch {
	case err != nil && w.troubled.CompareAndSwap(false, true):
		w.log.Warn("failures cannot be published; keeping the latest of each and trying again", "err", err)
	case err != nil:
		w.log.Debug("a failure cannot be published; trying again", "err", err)
	case w.troubled.CompareAndSwap(true, false):
		w.log.Info("failures are published again")
	}
}

// settle does everything that is to be done about key now.
func (w *Watcher) settle(ctx context.Context, key episode.Key) error {
	for {
		w.mu.Lock()
		job := w.book.Work(time.Now(), key)
		w.mu.Unlock()
		var err error
		switch job.Step {
		case episode.Nothing:
			return nil
		case episode.Warm:
			w.routed(ctx, w.complete(ctx, job.Key, job.Failure, heal.Failure{}), heal.Failure{}) // asked again, and for good, by open
		case episode.Open:
			err = w.open(ctx, job)
		case episode.Announce:
			err = w.announce(ctx, job)
		case episode.Resolve:
			err = w.resolve(ctx, job)
		}
		if err != nil {
			return err
		}
	}
}

// open stores the record of a new episode, so that all watchers name it alike.
func (w *Watcher) open(ctx context.Context, job episode.Work) error {
	rec := job.Record
	rec.Failure = w.complete(ctx, job.Key, rec.Failure, heal.Failure{})
	var ahead sync.WaitGroup // what announce needs next is read while the record is stored
	defer ahead.Wait()
	opened := rec.Failure
	ahead.Go(func() { w.routed(ctx, opened, heal.Failure{}) })
	rev, err := w.store.Create(ctx, job.Key.ID(), rec)
	if errors.Is(err, bus.ErrConflict) {
		// Another watcher was quicker, or we were, before a restart; or the same
		// has been, of late.
		var there episode.Record
		if there, rev, err = w.store.Get(ctx, job.Key.ID()); err == nil && there.Resting() {
			rec = rec.After(there)
			rev, err = w.store.Update(ctx, job.Key.ID(), rec, rev)
		} else {
			rec = there
		}
	}
	if err != nil {
		return fmt.Errorf("open episode of %s: %w", job.Failure.Target, err)
	}
	w.stored(rec, rev)
	return nil
}

// announce publishes an occurrence, unless another watcher has done so or has
// ended the episode. The record follows the message: after a crash between
// them the message is sent again, with the same id.
func (w *Watcher) announce(ctx context.Context, job episode.Work) error {
	rec, rev := job.Record, job.Revision
	if rec.Announced > 0 {
		var ended bool
		var err error
		if rec, rev, ended, err = w.current(ctx, job.Key); err != nil || ended {
			return err
		}
		if rec.Announced >= job.Failure.Occurrence || !rec.FirstSeen.Equal(job.Record.FirstSeen) {
			w.stored(rec, rev)
			return nil
		}
	}
	first := rec.Announced == 0
	f := w.routed(ctx, w.complete(ctx, job.Key, job.Failure, rec.Failure), rec.Failure)
	sent, err := w.publish(ctx, f)
	if err != nil {
		return err
	}
	rec.Announced, rec.Failure = f.Occurrence, f
	if first && sent {
		w.detected.Add(1)
		w.logOf(f).Info("failure detected", "affected", f.Affected().String(), "node", f.Node, "first_seen", f.FirstSeen, "description", f.Description)
	}
	newRev, err := w.store.Update(ctx, job.Key.ID(), rec, rev)
	if errors.Is(err, bus.ErrConflict) {
		var ended bool
		var theirs episode.Record
		if theirs, newRev, ended, err = w.current(ctx, job.Key); err != nil {
			return err
		}
		if ended && theirs.Resting() { // by somebody who may not have known that it had begun
			rec.ResolvedAt = time.Now().UTC().Truncate(time.Millisecond)
			_, err = w.publish(ctx, rec.End())
			return err
		}
		if ended {
			return nil
		}
		theirs.Announced = max(theirs.Announced, rec.Announced) // as far as this one is published
		rec = theirs
	}
	if err != nil {
		return fmt.Errorf("note occurrence %d of %s: %w", f.Occurrence, f.Target, err)
	}
	w.stored(rec, newRev)
	return nil
}

// resolve publishes the end of an episode. The record says first that it has
// ended, so that nobody goes on with it; putting it to rest comes last.
func (w *Watcher) resolve(ctx context.Context, job episode.Work) error {
	rec, rev, ended, err := w.record(ctx, job.Key)
	if err != nil {
		return fmt.Errorf("resolve episode of %s: %w", job.Record.Failure.Target, err)
	}
	if ended {
		return nil
	}
	if rec.Announced == 0 {
		said, err := w.said(ctx, rec)
		if err != nil {
			return fmt.Errorf("resolve episode of %s: %w", rec.Failure.Target, err)
		}
		if !said {
			return w.unsaid(ctx, job.Key, rev)
		}
	}
	if rec.ResolvedAt.IsZero() {
		rec.ResolvedAt = time.Now().UTC().Truncate(time.Millisecond)
		rev, err = w.store.Update(ctx, job.Key.ID(), rec, rev)
		if errors.Is(err, bus.ErrConflict) {
			return nil // somebody else noted something; from the start, with that
		}
		if err != nil {
			return fmt.Errorf("resolve episode of %s: %w", rec.Failure.Target, err)
		}
	}
	f := rec.End()
	sent, err := w.publish(ctx, f)
	if err != nil {
		return err
	}
	if sent {
		w.logOf(f).Info("failure resolved", "after", f.ResolvedAt.Sub(f.FirstSeen).String(), "occurrences", f.Occurrence)
	}
	if job.Gone {
		err = w.store.Delete(ctx, job.Key.ID(), rev)
	} else {
		_, err = w.store.Update(ctx, job.Key.ID(), rec.Rest(), rev)
	}
	if err != nil && !errors.Is(err, bus.ErrConflict) && !errors.Is(err, bus.ErrNotFound) {
		return fmt.Errorf("put the episode of %s to rest: %w", f.Target, err)
	}
	w.ended(job.Key)
	return nil
}

// said reports whether anything of an episode was published, although its
// record does not say so: the note, or the answer before it, may have been
// lost. Of one that is so old that nobody can tell, it is: an end without a
// beginning does less harm than a failure that never ends.
func (w *Watcher) said(ctx context.Context, rec episode.Record) (bool, error) {
	age := time.Since(rec.Opened)
	if age >= bus.DuplicateWindow {
		return true, nil
	}
	f := rec.Failure
	last, _ := w.cfg.Schedule.At(age)
	for f.Occurrence = 1; f.Occurrence <= last; f.Occurrence++ {
		if stored, err := bus.Failures.Stored(ctx, w.bus, f); stored || err != nil {
			return stored, err
		}
	}
	return false, nil
}

// unsaid drops the record of an episode of which nobody was told.
func (w *Watcher) unsaid(ctx context.Context, key episode.Key, rev uint64) error {
	err := w.store.Delete(ctx, key.ID(), rev)
	if errors.Is(err, bus.ErrConflict) {
		return nil // somebody else noted something; from the start, with that
	}
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return err
	}
	w.ended(key)
	return nil
}

// record reads the stored record of key; ended says that there is none.
func (w *Watcher) record(ctx context.Context, key episode.Key) (rec episode.Record, rev uint64, ended bool, err error) {
	rec, rev, err = w.store.Get(ctx, key.ID())
	if errors.Is(err, bus.ErrNotFound) || err == nil && rec.Resting() {
		w.ended(key)
		return rec, 0, true, nil
	}
	return rec, rev, false, err
}

// current is record, for an episode that is to go on: one that somebody else
// has resolved, but not removed yet, is taken over for that.
func (w *Watcher) current(ctx context.Context, key episode.Key) (rec episode.Record, rev uint64, ended bool, err error) {
	rec, rev, ended, err = w.record(ctx, key)
	if err == nil && !ended && !rec.ResolvedAt.IsZero() {
		w.stored(rec, rev)
		return rec, rev, true, nil
	}
	return rec, rev, ended, err
}

func (w *Watcher) stored(rec episode.Record, rev uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.book.Stored(time.Now(), rec, rev)
	w.poke()
}

func (w *Watcher) ended(key episode.Key) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, known := w.book.Target(key)
	w.book.Ended(time.Now(), key)
	if s, uid := w.sourceOf(t); known && s != nil {
		s.release(name{t.Namespace, t.Name}, uid)
	}
	w.poke()
}

// complete adds the top of the owner chain, and what follows from it. If that
// cannot be read now, an earlier answer is used, or else the direct owner; the
// next occurrence asks again.
func (w *Watcher) complete(ctx context.Context, key episode.Key, f, earlier heal.Failure) heal.Failure {
	if direct := f.Owner; direct != (heal.Target{}) {
		top, err := w.owners.top(ctx, f.Owner)
		if err != nil {
			w.log.Debug("owner chain not known", "target", f.Target.String(), "err", err)
			if earlier.Owner != (heal.Target{}) {
				top = earlier.Owner
			}
		}
		f.Owner = top
		f = w.revised(ctx, f, direct)
	}
	f.Fingerprint = heal.MakeFingerprint(f.Type, f.Target, f.Owner, key.Part, f.Reason)
	return f
}

// logOf logs with what names f.
func (w *Watcher) logOf(f heal.Failure) *slog.Logger {
	return w.log.With("target", f.Target.String(), "type", f.Type, "reason", f.Reason, "detector", f.Detector,
		"episode_id", f.EpisodeID, "incident_id", f.IncidentID())
}

// publish sends f. What can never be sent is given up here, and said aloud.
func (w *Watcher) publish(ctx context.Context, f heal.Failure) (sent bool, err error) {
	err = bus.Failures.Publish(ctx, w.bus, f)
	if bus.IsPermanent(err) {
		w.logOf(f).Error("a failure can never be published; giving this occurrence up", "err", err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	state := stateDetected
	if f.Resolved() {
		state = stateResolved
	}
	w.metrics.published.WithLabelValues(string(f.Type), state).Inc()
	return true, nil
}
