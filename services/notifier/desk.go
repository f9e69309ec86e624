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

	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/pause"
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
	since     time.Time     // news from before is history
	began     time.Time     // listening, this time
	announced time.Duration // the longest time between two announcements of what lasts

	talks    *bus.Store[talk.Incident]
	pointers *bus.Store[pointer]
	gates    *bus.Store[gate.Gate]

	silences mirror[heal.Silence]
	seen     mirror[talk.Incident]

	known cache[talk.Incident] // incidents of late

	gateMu sync.Mutex                 // held while a gate is read and written; there are few, and all of one place wait for each other
	passed map[string]kept[gate.Gate] // by key; guarded by gateMu
}

// A pointer says to which incident an episode belongs, where that does not
// follow from its id.
type pointer struct {
	Of string `json:"of"`
}

// What is kept of a bucket is its value at a revision. It may be an old one:
// who writes by compare-and-set is told so, and reads again.
type kept[V any] struct {
	value V
	rev   uint64
}

// A cache keeps what was read or written last, so that the next news of an
// incident need not ask for it.
type cache[V any] struct {
	mu  sync.Mutex
	all map[string]kept[V] // guarded by mu
}

// maxCached incidents are a few MiB.
const maxCached = 1024

func (c *cache[V]) get(key string) (kept[V], bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.all[key]
	return k, ok
}

func (c *cache[V]) put(key string, v V, rev uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[string]kept[V]{}
	}
	for old := range c.all { // any one
		if len(c.all) < maxCached {
			break
		}
		delete(c.all, old)
	}
	c.all[key] = kept[V]{v, rev}
}

func (c *cache[V]) drop(key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.all, key)
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
		passed: map[string]kept[gate.Gate]{}, began: time.Now(),
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
			if !pause.For(ctx, time.Second) {
				return ctx.Err()
			}
		}
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
	news.Now = time.Now()
	admitted := map[string]string{} // by place, so that a conflict does not count twice
	for {
		old, rev, err := d.recall(ctx, incident)
		if err != nil {
			return err
		}
		if step, again := old.Step(news.ID); again {
			return d.publish(ctx, old, news, step.Seq, step.Places)
		}
		if err := d.point(ctx, old, news); err != nil {
			return err
		}
		next, places, spared, err := d.decide(ctx, old, news, stored, admitted)
		if err != nil {
			return err
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

// point notes to which incident an episode belongs, when its end does not say.
func (d *desk) point(ctx context.Context, i talk.Incident, news talk.News) error {
	f := news.Failure()
	if news.Over != nil || i.ID == f.IncidentID() || slices.Contains(i.Open, f.EpisodeID) || slices.Contains(i.Gone, f.EpisodeID) {
		return nil
	}
	if _, err := d.pointers.Create(ctx, pointerKey(f.EpisodeID), pointer{i.ID}); !errors.Is(err, bus.ErrConflict) {
		return err
	}
	return nil
}

// decide is the incident with the news, the places that are to be told, and by
// channel how many are not.
func (d *desk) decide(ctx context.Context, old talk.Incident, news talk.News, stored time.Time, admitted map[string]string) (next talk.Incident, places []string, spared map[string]int, err error) {
	next, worth := old.Hear(news)
	c := route.Case{Incident: next, News: news, Worth: worth, Stored: stored, Now: news.Now, Since: d.since, Silences: d.silences.values()}
	spared = map[string]int{}
	for _, l := range d.listeners {
		told, course, err := d.judge(ctx, l, c, admitted)
		if err != nil {
			return next, nil, nil, err
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
		if l.Audience == route.Record || l.Audience == route.Changes {
			continue
		}
		if next.Told == nil || reflect.ValueOf(next.Told).Pointer() == reflect.ValueOf(old.Told).Pointer() {
			next.Told = clone(old.Told)
		}
		next.Told[l.Place()] = told
	}
	if worth {
		next.Steps = slices.Clone(next.Steps)
		next.Steps[len(next.Steps)-1].Places = places
	}
	return next, places, spared, nil
}

// recall is what is remembered of an incident, and its revision; 0 if nothing is.
func (d *desk) recall(ctx context.Context, incident string) (talk.Incident, uint64, error) {
	if k, ok := d.known.get(incidentKey(incident)); ok {
		return k.value, k.rev, nil
	}
	i, rev, err := d.talks.Get(ctx, incidentKey(incident))
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return i, 0, err
	}
	i.ID = incident
	return i, rev, nil
}

func clone(m map[string]talk.Told) map[string]talk.Told {
	c := make(map[string]talk.Told, len(m)+1)
	for k, v := range m {
		c[k] = v
	}
	return c
}

func (d *desk) put(ctx context.Context, i talk.Incident, rev uint64) (err error) {
	key := incidentKey(i.ID)
	if rev == 0 {
		rev, err = d.talks.Create(ctx, key, i)
	} else {
		rev, err = d.talks.Update(ctx, key, i, rev)
	}
	if err != nil {
		d.known.drop(key) // whatever it was, what is stored may be another
		return err
	}
	d.known.put(key, i, rev)
	return nil
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
	key := gateKey(l)
	for {
		k, known := d.passed[key]
		if !known {
			g, rev, err := d.gates.Get(ctx, key)
			if err != nil && !errors.Is(err, bus.ErrNotFound) {
				return "", err
			}
			k = kept[gate.Gate]{g, rev}
		}
		k.value.Channel, k.value.To = l.Channel, l.To
		next, id := change(k.value)
		if id != "" && k.rev != 0 && small(k.value, next) {
			d.passed[key] = k
			return id, nil // in a storm thousands are added; the bucket need not hear of each
		}
		var err error
		if k.rev == 0 {
			k.rev, err = d.gates.Create(ctx, key, next)
		} else {
			k.rev, err = d.gates.Update(ctx, key, next, k.rev)
		}
		if err == nil {
			d.passed[key] = kept[gate.Gate]{next, k.rev}
			return id, nil
		}
		delete(d.passed, key)
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
	var g errgroup.Group // all at once: each waits for the disk
	for _, l := range d.listeners {
		if slices.Contains(places, l.Place()) {
			g.Go(func() error { return bus.Notifications.Publish(ctx, d.bus, compose(d.policy, l, i, news, seq)) })
		}
	}
	if len(places) > 0 {
		d.log.Debug("news dispatched", "incident", i.ID, "news", news.ID, "phase", i.Phase, "told", strings.Join(places, ", "))
	}
	return g.Wait()
}

// compose writes what a listener is told of the news. It is pure.
func compose(p route.Policy, l route.Listener, i talk.Incident, news talk.News, seq int) heal.Notification {
	f := news.Failure()
	n := heal.Notification{
		Channel: l.Channel, To: l.To, Severity: i.Severity, Decision: news.Decision, Failure: news.Over, Origin: news.Origin,
		Incident: i.ID, Phase: i.Phase, Metadata: p.Links.For(i.ID, f),
	}
	if news.Result != nil {
		n.Result = *news.Result
	}
	if l.Audience == route.Record || l.Audience == route.Changes {
		n.Severity = severityOf(news, i)
		return n
	}
	if news.Over != nil && !i.Began.IsZero() && i.Began.Before(f.FirstSeen) {
		f.FirstSeen = i.Began // people are told how long the whole of it lasted
		n.Failure = &f
	}
	n.Seq, n.Timeline = seq, i.Lines
	n.Metadata = p.Templates.For(n)
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
