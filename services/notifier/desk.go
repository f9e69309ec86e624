package notifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/channel"
	"github.com/selfheal/selfheal/services/notifier/internal/gate"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/talk"
)

// A desk is the first hop: decisions, results and ends of failures to
// notifications. What it remembers of each incident stands in a bucket, written
// by compare-and-set, before anybody is told; news that comes again after a
// crash is told again alike, under the same ids.
type desk struct {
	bus       *bus.Bus
	log       *slog.Logger
	metrics   metrics
	policy    route.Policy
	listeners []route.Listener
	since     time.Time // news from before is history

	talks    *bus.Store[talk.Incident]
	pointers *bus.Store[pointer]
	gates    *bus.Store[gate.Gate]

	silences mirror[heal.Silence]
	seen     mirror[talk.Incident]

	gateMu sync.Mutex // held while a gate is read and written; there are few, and all of one place wait for each other
}

// A pointer says to which incident an episode belongs, where that does not
// follow from its id.
type pointer struct {
	Of string `json:"of"`
}

// A mirror is a bucket, as far as it was heard of.
type mirror[V any] struct {
	mu  sync.Mutex
	all map[string]V // guarded by mu
}

func (m *mirror[V]) put(key string, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.all == nil {
		m.all = map[string]V{}
	}
	m.all[key] = v
}

func (m *mirror[V]) drop(key string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, key)
}

func (m *mirror[V]) values() []V {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]V, 0, len(m.all))
	for _, v := range m.all {
		all = append(all, v)
	}
	return all
}

func newDesk(b *bus.Bus, log *slog.Logger, m metrics, p route.Policy, listeners []route.Listener) *desk {
	return &desk{
		bus: b, log: log, metrics: m, policy: p, listeners: listeners,
		talks:    bus.NewStore[talk.Incident](b, bus.ConversationsBucket),
		pointers: bus.NewStore[pointer](b, bus.ConversationsBucket),
		gates:    bus.NewStore[gate.Gate](b, bus.ConversationsBucket),
	}
}

// The keys of the bucket of conversations.
var keyForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func key(sort, id string) string {
	if !keyForm.MatchString(id) {
		id = heal.ID("k", id)
	}
	return sort + "." + id
}

func incidentKey(id string) string    { return key("i", id) }
func pointerKey(id string) string     { return key("e", id) }
func gateKey(l route.Listener) string { return key("p", heal.ID("k", l.Place())) }

const startKey = "s.start"

// begin notes when people were first told anything, the first time of all.
func (d *desk) begin(ctx context.Context) error {
	starts := bus.NewStore[talk.Incident](d.bus, bus.ConversationsBucket)
	const skew = time.Minute // between our clock and the server's
	for {
		s, _, err := starts.Get(ctx, startKey)
		if err == nil {
			d.since = s.Began
			return nil
		}
		if errors.Is(err, bus.ErrNotFound) {
			_, err = starts.Create(ctx, startKey, talk.Incident{Began: time.Now().UTC().Add(-skew)})
		}
		if err != nil && !errors.Is(err, bus.ErrConflict) {
			d.log.Warn("the state of conversations cannot be read, trying again", "err", err)
			if !pause(ctx, time.Second) {
				return ctx.Err()
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (d *desk) result(ctx context.Context, m bus.Message[heal.Result]) error {
	r := m.Data
	return d.hear(ctx, r.Decision.IncidentID, talk.News{ID: m.ID, At: m.Time, Result: &r, Origin: heal.MakeOrigin(m.Event, m.Stored)}, m.Stored)
}

func (d *desk) decision(ctx context.Context, m bus.Message[heal.Decision]) error {
	n := m.Data
	return d.hear(ctx, n.IncidentID, talk.News{ID: m.ID, At: m.Time, Decision: &n, Origin: heal.MakeOrigin(m.Event, m.Stored)}, m.Stored)
}

// failure hears only of ends: what is announced ends in a decision, which
// knows the incident.
func (d *desk) failure(ctx context.Context, m bus.Message[heal.Failure]) error {
	f := m.Data
	if !f.Resolved() {
		return nil
	}
	incident := f.IncidentID()
	p, _, err := d.pointers.Get(ctx, pointerKey(f.EpisodeID))
	switch {
	case err == nil && p.Of != "":
		incident = p.Of
	case err != nil && !errors.Is(err, bus.ErrNotFound):
		return err
	}
	return d.hear(ctx, incident, talk.News{ID: m.ID, At: m.Time, Over: &f, Origin: heal.MakeOrigin(m.Event, m.Stored)}, m.Stored)
}

// hear takes the news in, and stores a notification for each listener that is
// to be told. Doing so again does nothing: their ids follow from the news.
func (d *desk) hear(ctx context.Context, incident string, news talk.News, stored time.Time) error {
	f := news.Failure()
	if news.Over == nil && incident != f.IncidentID() {
		if _, err := d.pointers.Create(ctx, pointerKey(f.EpisodeID), pointer{incident}); err != nil && !errors.Is(err, bus.ErrConflict) {
			return err
		}
	}
	admitted := map[string]string{} // by place, so that a conflict does not count twice
	for {
		old, rev, err := d.talks.Get(ctx, incidentKey(incident))
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return err
		}
		old.ID = incident
		if step, again := old.Step(news.ID); again {
			return d.publish(ctx, old, news, step.Seq, step.Places)
		}
		next, worth := old.Hear(news)
		c := route.Case{Incident: next, News: news, Worth: worth, Stored: stored, Now: time.Now(), Since: d.since, Silences: d.silences.values()}
		var places []string
		spared := map[string]int{}
		for _, l := range d.listeners {
			told, course, err := d.judge(ctx, l, c, admitted)
			if err != nil {
				return err
			}
			if course == route.Spare {
				spared[l.Channel]++
			}
			if course == route.Not || course == route.Spare {
				continue
			}
			if course == route.Tell && told.Digest == "" {
				places = append(places, l.Place())
			} else {
				spared[l.Channel]++
			}
			if next.Told == nil || reflect.ValueOf(next.Told).Pointer() == reflect.ValueOf(old.Told).Pointer() {
				next.Told = clone(old.Told)
			}
			if !slices.Contains([]route.Audience{route.Record, route.Changes}, l.Audience) {
				next.Told[l.Place()] = told
			}
		}
		if worth {
			next.Steps = slices.Clone(next.Steps)
			next.Steps[len(next.Steps)-1].Places = places
		}
		if !reflect.DeepEqual(old, next) || rev == 0 {
			if err := d.put(ctx, next, rev); errors.Is(err, bus.ErrConflict) {
				continue
			} else if err != nil {
				return err
			}
		}
		for name, n := range spared {
			for range n {
				d.metrics.count(name, outcomeSuppressed)
			}
		}
		return d.publish(ctx, next, news, next.Seq, places)
	}
}

func clone(m map[string]talk.Told) map[string]talk.Told {
	c := make(map[string]talk.Told, len(m)+1)
	for k, v := range m {
		c[k] = v
	}
	return c
}

func (d *desk) put(ctx context.Context, i talk.Incident, rev uint64) (err error) {
	if rev == 0 {
		_, err = d.talks.Create(ctx, incidentKey(i.ID), i)
	} else {
		_, err = d.talks.Update(ctx, incidentKey(i.ID), i, rev)
	}
	return err
}

// judge says what becomes of the news at one place, and what is remembered of that.
func (d *desk) judge(ctx context.Context, l route.Listener, c route.Case, admitted map[string]string) (talk.Told, route.Course, error) {
	course := d.policy.Decide(l, d.listeners, c)
	i := c.Incident
	before, known := i.Told[l.Place()]
	told := talk.Told{Seq: i.Seq, Phase: i.Phase, At: c.Now.UTC(), Again: before.Again}
	into := func(kind, name string) (err error) {
		told.Digest, err = d.gate(ctx, l, func(g gate.Gate) (gate.Gate, string) { return g.Into(kind, name, c.Now) })
		return err
	}
	switch course {
	case route.Keep, route.Silent:
		if !known {
			before = talk.Told{At: told.At}
		}
		before.Kept = before.Digest == ""
		if before.Digest != "" {
			before.Phase = told.Phase
		}
		return before, course, nil
	case route.Past:
		return told, course, into(gate.Start, "")
	case route.EachDay:
		day := route.Last(c.Now, "", d.policy.Daily.At, d.policy.Daily.Zone)
		return told, course, into(gate.Daily, day.Format(time.DateOnly))
	case route.Tell:
		if l.Audience == route.Record || l.Audience == route.Changes || l.Edits && known {
			return told, course, nil
		}
		id, done := admitted[l.Place()]
		if !done {
			var err error
			id, err = d.gate(ctx, l, func(g gate.Gate) (gate.Gate, string) {
				return g.Admit(d.policy.Storm, i.Severity == heal.Critical, c.Now)
			})
			if err != nil {
				return told, course, err
			}
			admitted[l.Place()] = id
		}
		told.Digest = id
	}
	return told, course, nil
}

// gate changes the gate of a place.
func (d *desk) gate(ctx context.Context, l route.Listener, change func(gate.Gate) (gate.Gate, string)) (string, error) {
	d.gateMu.Lock()
	defer d.gateMu.Unlock()
	for {
		old, rev, err := d.gates.Get(ctx, gateKey(l))
		if err != nil && !errors.Is(err, bus.ErrNotFound) {
			return "", err
		}
		old.Channel, old.To = l.Channel, l.To
		next, id := change(old)
		if id != "" && rev != 0 && small(old, next) {
			return id, nil // in a storm thousands are added; the bucket need not hear of each
		}
		if rev == 0 {
			_, err = d.gates.Create(ctx, gateKey(l), next)
		} else {
			_, err = d.gates.Update(ctx, gateKey(l), next, rev)
		}
		if !errors.Is(err, bus.ErrConflict) {
			return id, err
		}
	}
}

// small reports whether only the time of the last addition is another.
func small(old, next gate.Gate) bool {
	if len(old.Digests) != len(next.Digests) {
		return false
	}
	for i, d := range next.Digests {
		if o := old.Digests[i]; d.ID != o.ID || d.Sent != o.Sent || d.Extra != o.Extra || d.Last.Sub(o.Last) > time.Second {
			return false
		}
	}
	return true
}

// publish stores what is to be told at the places.
func (d *desk) publish(ctx context.Context, i talk.Incident, news talk.News, seq int, places []string) error {
	var errs []error
	for _, l := range d.listeners {
		if slices.Contains(places, l.Place()) {
			errs = append(errs, bus.Notifications.Publish(ctx, d.bus, d.notification(l, i, news, seq)))
		}
	}
	if len(places) > 0 {
		d.log.Debug("news dispatched", "incident", i.ID, "news", news.ID, "phase", i.Phase, "told", strings.Join(places, ", "))
	}
	return errors.Join(errs...)
}

func (d *desk) notification(l route.Listener, i talk.Incident, news talk.News, seq int) heal.Notification {
	f := news.Failure()
	n := heal.Notification{
		Channel: l.Channel, To: l.To, Severity: i.Severity, Decision: news.Decision, Failure: news.Over, Origin: news.Origin,
		Incident: i.ID, Phase: i.Phase, Metadata: d.policy.Links.For(i.ID, f),
	}
	if news.Result != nil {
		n.Result = *news.Result
	}
	if l.Audience == route.Record || l.Audience == route.Changes {
		n.Severity = severityOf(news, i)
		return n
	}
	n.Seq, n.Timeline = seq, i.Lines
	n.Metadata = d.policy.Templates.For(n)
	return n
}

// severityOf is the severity of the news itself, as a machine hears it.
func severityOf(news talk.News, i talk.Incident) heal.Severity {
	switch {
	case news.Result != nil:
		return news.Result.Decision.Severity
	case i.Severity != "":
		return i.Severity
	}
	return news.Failure().Severity
}

// press does what somebody asked for by a button, and says what came of it.
// The channel has seen to it that the person may.
func (d *desk) press(ctx context.Context, p channel.Press) string {
	by := "slack:" + p.User
	now := time.Now().UTC()
	log := d.log.With("by", by, "incident", p.Incident, "decision", p.Decision, "button", p.Action)
	failed := func(err error) string {
		log.Warn("a button could not be obeyed", "err", err)
		return "That did not work; try again, or use the command line: selfheal approve, reject, pause, explain."
	}
	if p.Action == channel.PauseIt {
		err := bus.Controls.Publish(ctx, d.bus, heal.Control{Verb: heal.Pause, By: by, Reason: "asked for beside incident " + p.Incident, At: now, Until: now.Add(time.Hour)})
		if err != nil {
			return failed(err)
		}
		log.Info("button obeyed")
		return "Nothing is changed any more, for 1 hour or until selfheal resume. Asked for by <" + by + ">."
	}
	i, _, err := d.talks.Get(ctx, incidentKey(p.Incident))
	if errors.Is(err, bus.ErrNotFound) {
		return "That incident is not known any more."
	}
	if err != nil {
		return failed(err)
	}
	if p.Action == channel.Explain {
		lines := append([]string{"Why:"}, i.Why...)
		lines = append(lines, "So far:")
		for _, m := range i.Lines {
			lines = append(lines, m.At.Format(time.TimeOnly)+"  "+m.Text)
		}
		return strings.Join(lines, "\n")
	}
	if i.Await == nil || i.Await.Decision != p.Decision || !now.Before(i.Await.Until) {
		return "That decision does not wait for anybody any more."
	}
	approved := p.Action == channel.Approve
	if err := bus.Approvals.Publish(ctx, d.bus, heal.Approval{DecisionID: p.Decision, Approved: approved, By: by, Reason: "by a button", At: now}); err != nil {
		return failed(err)
	}
	log.Info("button obeyed")
	return fmt.Sprintf("%s by %s. The cluster is looked at again before anything is done.", map[bool]string{true: "Approved", false: "Rejected"}[approved], by)
}
