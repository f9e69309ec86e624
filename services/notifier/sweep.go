package notifier

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/pause"
	"github.com/selfheal/selfheal/services/notifier/internal/gate"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/talk"
)

// listen keeps the mirrors of what is stored, and calls ready when all that was
// stored before has been heard.
func (d *desk) listen(ctx context.Context, ready func()) error {
	var missing atomic.Int32
	missing.Store(2)
	complete := func() func(bool) {
		var once sync.Once
		return func(all bool) {
			if all {
				once.Do(func() {
					if missing.Add(-1) == 0 {
						ready()
					}
				})
			}
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		return d.talks.Listen(ctx, bus.Listener[talk.Incident]{Complete: complete(), Entry: func(e bus.Entry[talk.Incident]) {
			switch {
			case !strings.HasPrefix(e.Key, "i."):
			case e.Deleted:
				d.seen.drop(e.Key)
			default:
				d.seen.put(e.Key, slim(e.Value))
			}
		}})
	})
	silences := bus.NewStore[heal.Silence](d.bus, bus.SilencesBucket)
	g.Go(func() error {
		return silences.Listen(ctx, bus.Listener[heal.Silence]{Complete: complete(), Entry: func(e bus.Entry[heal.Silence]) {
			if e.Deleted {
				d.silences.drop(e.Key)
				return
			}
			if err := e.Value.Validate(); err != nil {
				d.log.Warn("a silence is not valid, and not obeyed", "silence", heal.Clean(e.Key, 64), "err", err)
				return
			}
			d.silences.put(e.Key, e.Value)
			if e.News {
				d.log.Info("silence begins", "silence", e.Value.ID, "by", e.Value.By, "reason", e.Value.Reason, "until", e.Value.Until)
			}
		}})
	})
	return g.Wait()
}

// slim is what the mirror keeps of an incident: many thousands may be in it.
func slim(i talk.Incident) talk.Incident {
	i.Open, i.Gone, i.UnderWay, i.Ended, i.Steps, i.Lines, i.Why = nil, nil, nil, nil, nil, nil, nil
	if i.Latest != nil {
		i.Latest = &talk.Latest{}
	}
	if i.Final != nil {
		i.Final = &talk.Latest{Failure: &heal.Failure{}}
	}
	return i
}

// sweep sees again and again to what has no news of its own: what was kept
// back, who must still look, and digests. Two replicas that do so at once tell
// nothing twice, as the ids of messages follow from what they say.
func (d *desk) sweep(ctx context.Context, every time.Duration) error {
	for pause.For(ctx, every) {
		now := time.Now()
		d.forget(now)
		all := d.seen.values()
		if err := errors.Join(d.settle(ctx, all, now), d.again(ctx, all, now), d.digests(ctx, all, now)); err != nil && ctx.Err() == nil {
			d.log.Warn("what was kept back could not be told, trying again", "err", err)
		}
	}
	return nil
}

// forget drops from the mirror what the bucket has dropped by its age.
func (d *desk) forget(now time.Time) {
	d.seen.mu.Lock()
	defer d.seen.mu.Unlock()
	for k, i := range d.seen.all {
		if !i.Changed.IsZero() && now.Sub(i.Changed) > bus.ConversationsBucket.TTL {
			delete(d.seen.all, k)
		}
	}
}

// settle ends what a try did not help and what nothing was heard of since.
// First it has to have listened for so long itself: what was stored while it
// was away may say otherwise.
func (d *desk) settle(ctx context.Context, all []talk.Incident, now time.Time) error {
	enough := time.Duration(d.policy.Group.Settle)
	var errs []error
	for _, i := range all {
		if i.Settle(now, d.enough(i)) == nil || now.Sub(d.began) < enough {
			continue
		}
		i, _, err := d.recall(ctx, i.ID)
		if news := i.Settle(now, d.enough(i)); err == nil && news != nil {
			err = d.end(ctx, i.ID, *news, now)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// enough is how long the incident has to stay quiet. Of more episodes than are
// remembered each is announced again within the longest time between two
// announcements, if it lasts.
func (d *desk) enough(i talk.Incident) time.Duration {
	if i.Many {
		return time.Duration(d.policy.Group.Settle) + d.announced
	}
	return time.Duration(d.policy.Group.Settle)
}

// end tells of the end, and then forgets what it is told with: a crash in
// between has it told again, under the same ids.
func (d *desk) end(ctx context.Context, incident string, news talk.News, now time.Time) error {
	if err := d.hear(ctx, incident, news, now); err != nil {
		return err
	}
	i, rev, err := d.recall(ctx, incident)
	if err != nil || !i.Phase.Over() || i.Final == nil {
		return err
	}
	i.Final = nil
	if err := d.put(ctx, i, rev); !errors.Is(err, bus.ErrConflict) {
		return err
	}
	return nil // the next sweep finds it
}

// again tells what was kept back, and what a person must still look at.
func (d *desk) again(ctx context.Context, all []talk.Incident, now time.Time) error {
	silences := d.silences.values()
	var errs []error
	for _, i := range all {
		for _, l := range d.listeners {
			if t, told := i.Told[l.Place()]; told && (t.Kept || !i.Phase.Over()) && i.Latest != nil && t.Digest == "" && d.perhaps(t, now) {
				errs = append(errs, d.tellAgain(ctx, l, i.ID, silences, now))
			}
		}
	}
	return errors.Join(errs...)
}

// perhaps saves reading the incident when there is nothing to do yet.
func (d *desk) perhaps(t talk.Told, now time.Time) bool {
	repeat := time.Duration(*d.policy.Group.Repeat)
	return t.Kept || repeat > 0 && now.Sub(t.At) >= repeat
}

func (d *desk) tellAgain(ctx context.Context, l route.Listener, id string, silences []heal.Silence, now time.Time) error {
	i, rev, err := d.recall(ctx, id)
	if err != nil || rev == 0 || !d.policy.Due(l, i, silences, now) {
		return err
	}
	t := i.Told[l.Place()]
	next := talk.Told{Seq: i.Seq, Phase: i.Phase, At: now.UTC(), Again: t.Again + 1}
	next.Digest, err = d.gate(ctx, l, func(g gate.Gate) (gate.Gate, string) {
		return g.Admit(d.policy.Storm, i.Severity == heal.Critical, now)
	})
	if err != nil {
		return err
	}
	if next.Digest == "" {
		news := talk.News{Result: i.Latest.Result, Decision: i.Latest.Decision, Over: i.Latest.Failure, Origin: i.Latest.Origin}
		n := compose(d.policy, l, i, news, i.Seq)
		n.Again = next.Again
		if err := bus.Notifications.Publish(ctx, d.bus, n); err != nil {
			return err
		}
	}
	i.Told = clone(i.Told)
	i.Told[l.Place()] = next
	if err := d.put(ctx, i, rev); err != nil && !errors.Is(err, bus.ErrConflict) {
		return err
	}
	return nil
}

// digests tells what digests are due.
func (d *desk) digests(ctx context.Context, all []talk.Incident, now time.Time) error {
	members := map[string][]talk.Incident{}
	for _, i := range all {
		for _, t := range i.Told {
			if t.Digest != "" {
				members[t.Digest] = append(members[t.Digest], i)
			}
		}
	}
	var errs []error
	for _, l := range d.listeners {
		if l.Audience == route.Record || l.Audience == route.Changes {
			continue
		}
		g, _, err := d.gates.Get(ctx, gateKey(l))
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		for _, digest := range g.Digests {
			open := 0
			for _, i := range members[digest.ID] {
				if !i.Phase.Over() {
					open++
				}
			}
			if due, over := digest.Due(d.policy, l.Edits, open, now); due {
				text, severity := digest.Write(members[digest.ID], over)
				if text.Total == 0 && over {
					errs = append(errs, d.digestTold(ctx, l, digest.ID, over)) // what it was about is forgotten
					continue
				}
				errs = append(errs, d.tellDigest(ctx, l, text, severity, digest.Sent+1), d.digestTold(ctx, l, digest.ID, over))
			}
		}
		if l.Audience == route.Monitoring {
			errs = append(errs, d.weekly(ctx, l, g, all, now))
		}
	}
	return errors.Join(errs...)
}

func (d *desk) tellDigest(ctx context.Context, l route.Listener, text heal.Digest, severity heal.Severity, seq int) error {
	return bus.Notifications.Publish(ctx, d.bus, heal.Notification{
		Channel: l.Channel, To: l.To, Severity: severity, Digest: &text, Incident: text.ID, Seq: seq,
	})
}

func (d *desk) digestTold(ctx context.Context, l route.Listener, id string, over bool) error {
	_, err := d.gate(ctx, l, func(g gate.Gate) (gate.Gate, string) { return g.Told(id, over, time.Now()), "" })
	return err
}

// weekly tells those who look now and then what fails again and again.
func (d *desk) weekly(ctx context.Context, l route.Listener, g gate.Gate, all []talk.Incident, now time.Time) error {
	w := d.policy.Weekly
	at := route.Last(now, w.Day, w.At, w.Zone)
	if w.Disable || !g.Weekly.Before(at) {
		return nil
	}
	text := gate.Offenders(all, at.Add(-7*24*time.Hour), w.AtLeast)
	// The first time of all, a week has not been watched yet.
	if len(text.Lines) > 0 && d.since.Before(at) {
		text.ID = heal.ID("g", l.Place(), gate.Weekly, at.UTC().Format(time.DateOnly))
		if err := d.tellDigest(ctx, l, text, heal.Medium, 1); err != nil {
			return err
		}
	}
	_, err := d.gate(ctx, l, func(g gate.Gate) (gate.Gate, string) { g.Weekly = at; return g, "" })
	return err
}

// word tells people on another channel that one has taken nothing for long.
func (d *desk) word(ctx context.Context, name string, reason error, now time.Time) {
	at := slices.IndexFunc(d.listeners, func(l route.Listener) bool {
		return l.Channel != name && (l.Audience == route.Incident || l.Audience == route.OnCall || l.Audience == route.Routed)
	})
	if at < 0 {
		return
	}
	day := now.UTC().Format(time.DateOnly)
	text := heal.Digest{
		ID: heal.ID("g", "channel", name, day), Kind: "channel", Title: "the channel " + name + " did not take messages, and they were given up",
		Lines: []string{"• " + heal.Clean(reason.Error(), heal.MaxText), "• they are in the stream " + bus.DeadLetters.Stream}, Over: true,
	}
	if err := d.tellDigest(ctx, d.listeners[at], text, heal.High, 1); err != nil {
		d.log.Warn("nobody could be told that a channel takes no messages", "channel", name, "err", err)
	}
}
