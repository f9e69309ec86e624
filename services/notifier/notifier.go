// Package notifier tells people, and machines, what became of each failure.
//
// It does so in two hops. The first reads each result once, and stores one
// notification for every channel and place that is to hear of it (package
// route). The second is one consumer for each channel, which hands the
// notifications over (package channel) and is done with each when the other
// side has taken it. So a channel that is down delays no other, and catches up
// when it is back.
//
// It promises that a result that is worth telling reaches each of its channels
// at least once, or else the dead-letter stream after GiveUp of trying. Twice
// is possible in one case only: when we are killed after the other side took a
// message and before we noted so. PagerDuty and Alertmanager can tell by the
// incident, a mailbox by the Message-ID, the generic webhook's receiver by the
// Idempotency-Key; Slack's incoming webhooks offer nothing against it.
//
// It has no rights in the cluster and nothing to say to the other services.
package notifier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	_ "time/tzdata" // the policy's zones; a container has none

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/channel"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
)

// Name is the service's name.
const Name = "notifier"

// Config is what an operator can choose.
type Config struct {
	Settings    config.Settings // each channel takes what it needs; without NotificationEnabled all are silent
	SendTimeout time.Duration   // for one attempt to hand over a message; default 10 s
	Sweep       time.Duration   // between looks at what was kept back, and at digests; default 5 s
	GiveUp      time.Duration   // a message is given up when it could not be handed over for so long; default 24 h
}

// Deps are what Run works with. Bus is required.
type Deps struct {
	Bus     *bus.Bus
	Log     *slog.Logger                           // default: discard
	Metrics prometheus.Registerer                  // default: none are kept
	Check   func(field string, check func() error) // of readiness; default: nobody asks
	Status  func(fields func() map[string]any)     // what else is shown of it; default: nobody asks
}

// Service is the notifier as a process, and as a part of one.
func Service() daemon.Service {
	return daemon.Service{
		Name:    Name,
		Summary: "Tells people, and machines, what became of each failure.",
		Run: func(ctx context.Context, d *daemon.Daemon) error {
			return Run(ctx, Config{Settings: d.Settings}, Deps{Bus: d.Bus, Log: d.Log, Metrics: d.Metrics, Check: d.Check, Status: d.Status})
		},
	}
}

// Run tells what there is to tell until ctx is done. It returns early for
// settings that cannot work (config.ErrSettings), and when the bus refuses it
// what it needs.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	if cfg.SendTimeout == 0 {
		cfg.SendTimeout = 10 * time.Second
	}
	if cfg.GiveUp == 0 {
		cfg.GiveUp = 24 * time.Hour
	}
	if cfg.Sweep == 0 {
		cfg.Sweep = 5 * time.Second
	}
	log := deps.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	policy, err := readPolicy(cfg.Settings.NotifyPolicyFile)
	if err != nil {
		return config.Invalid(err)
	}
	lines, err := channel.OpenFor(cfg.Settings, cfg.SendTimeout, policy.Places())
	if err == nil {
		err = reachable(policy, lines)
	}
	if err != nil {
		return config.Invalid(err)
	}
	m, err := newMetrics(deps.Metrics)
	if err != nil {
		return err
	}
	advise(log, cfg.Settings, lines)

	var listening atomic.Bool
	if deps.Check != nil {
		deps.Check("monitoring_active", func() error {
			if !listening.Load() {
				return errors.New("not listening for results")
			}
			return nil
		})
	}
	d := newDesk(deps.Bus, log, m, policy, nil)
	d.announced = cfg.Settings.RecoveryTimeout
	for _, line := range lines {
		d.listeners = append(d.listeners, line.Listeners...)
		m.expect(line.Name)
	}
	if err := d.begin(ctx); err != nil {
		return nil //nolint:nilerr // we were told to stop
	}
	g, ctx := errgroup.WithContext(ctx)
	deliveries := bus.NewStore[delivery](deps.Bus, bus.ConversationsBucket)
	for _, line := range lines {
		c := &courier{
			line: line, enabled: cfg.Settings.NotificationEnabled, giveUp: cfg.GiveUp, log: log.With("channel", line.Name), metrics: m,
			deliveries: deliveries, newest: d.newest, word: d.word,
		}
		g.Go(func() error {
			return bus.Notifications.Consume(ctx, deps.Bus, bus.Consumer{
				Name:    Name + "-" + line.Name,
				Filter:  line.Name + ".>",
				Workers: 1, // in order, and never two at once for one rate limit
				Timeout: cfg.SendTimeout + 20*time.Second,
				Backoff: backoff,
			}, c.deliver)
		})
		if line.Answers != nil && cfg.Settings.NotificationEnabled {
			e, err := newEar(line.Name, log, deps)
			if err != nil {
				return err
			}
			g.Go(func() error { return line.Answers(ctx, d.press, e.hears) })
		}
	}
	ready := make(chan struct{})
	g.Go(func() error { return d.listen(ctx, sync.OnceFunc(func() { close(ready) })) })
	hear := func(consume func() error) {
		g.Go(func() error {
			select {
			case <-ready:
				return consume()
			case <-ctx.Done():
				return nil
			}
		})
	}
	const workers, timeout = 32, 30 * time.Second // many at once: what they store goes to the disk together
	hear(func() error {
		listening.Store(true)
		defer listening.Store(false)
		return bus.Results.Consume(ctx, deps.Bus, bus.Consumer{Name: Name, Workers: workers, Timeout: timeout, Backoff: backoff}, d.result)
	})
	hear(func() error {
		return bus.Decisions.Consume(ctx, deps.Bus, bus.Consumer{Name: Name + "-decisions", Workers: workers, Timeout: timeout, Backoff: backoff}, d.decision)
	})
	// So that a page does not wait for a thousand other decisions.
	hear(func() error {
		return bus.Decisions.Consume(ctx, deps.Bus, bus.Consumer{Name: Name + "-critical", Filter: "*.*." + string(heal.Critical) + ".>", Workers: 2, Timeout: timeout, Backoff: backoff}, d.decision)
	})
	hear(func() error {
		return bus.Failures.Consume(ctx, deps.Bus, bus.Consumer{Name: Name + "-failures", Workers: workers, Timeout: timeout, Backoff: backoff}, d.failure)
	})
	hear(func() error { return d.sweep(ctx, cfg.Sweep) })
	return g.Wait()
}

// readPolicy reads the policy in a file; without a name it is the default.
func readPolicy(file string) (route.Policy, error) {
	if file == "" {
		return route.Parse(nil)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return route.Policy{}, fmt.Errorf("notify_policy_file: %w", err)
	}
	p, err := route.Parse(data)
	if err != nil {
		return p, fmt.Errorf("notify_policy_file %s: %w", file, err)
	}
	return p, nil
}

// reachable reports places in the policy that no channel has.
func reachable(p route.Policy, lines []*channel.Line) error {
	var have []string
	for _, line := range lines {
		for _, l := range line.Listeners {
			have = append(have, strings.TrimSuffix(l.Channel+":"+l.To, ":"))
		}
	}
	for i, r := range p.Routes {
		for j, to := range r.To {
			if !slices.Contains(have, to) {
				return fmt.Errorf("notify_policy_file: routes[%d].to[%d]: %q is not a place of a configured channel; there are: %s", i, j, heal.Clean(to, 64), strings.Join(have, ", "))
			}
		}
	}
	return nil
}

// advise says once what the operator should know about the settings.
func advise(log *slog.Logger, s config.Settings, lines []*channel.Line) {
	names := []string{}
	for _, line := range lines {
		names = append(names, line.Name)
		for _, w := range line.Warnings {
			log.Warn("a channel's settings need a look", "channel", line.Name, "advice", w)
		}
	}
	log.Info("notifier starts", "channels", names, "enabled", s.NotificationEnabled)
}

// A courier is the second hop: notifications of one channel to the other side.
type courier struct {
	line       *channel.Line
	enabled    bool
	giveUp     time.Duration
	log        *slog.Logger
	metrics    metrics
	deliveries *bus.Store[delivery]
	newest     func(ctx context.Context, n heal.Notification) (int, error)
	word       func(ctx context.Context, channel string, reason error, now time.Time)
	failing    atomic.Bool // so that a channel's trouble is said once, not with every message
}

// A delivery is what a place was told last of a conversation, and by which
// message.
type delivery struct {
	Ref   channel.Ref `json:"ref,omitempty"`
	Seq   int         `json:"seq"`
	Again int         `json:"again,omitempty"`
}

// deliver hands one notification over. It is done with it only when the other
// side has taken it.
func (c *courier) deliver(ctx context.Context, m bus.Message[heal.Notification]) error {
	if !c.enabled {
		c.metrics.count(c.line.Name, outcomeSuppressed)
		return nil
	}
	err := c.tell(ctx, m.Data)
	if errors.Is(err, errOvertaken) {
		c.metrics.count(c.line.Name, outcomeSuppressed)
		return nil
	}
	now := time.Now()
	outcome, err := judge(err, m.Attempt, now.Sub(m.Stored), c.giveUp)
	c.metrics.count(c.line.Name, outcome)
	switch outcome {
	case outcomeSent:
		since := m.Data.Origin.Stored
		if since.IsZero() || m.Data.Again > 0 {
			since = m.Stored
		}
		latency := max(0, now.Sub(since))
		c.metrics.latency.WithLabelValues(c.line.Name).Observe(latency.Seconds())
		c.log.Info("told", "to", m.Data.To, "incident", m.Data.Conversation(), "phase", m.Data.Phase, "decision", m.Data.About().ID, "target", m.Data.Head().Target.String(), "outcome", m.Data.Result.Outcome, "latency", latency.String())
		if c.failing.Swap(false) {
			c.log.Info("channel takes messages again")
		}
	case outcomeRetried:
		if !c.failing.Swap(true) {
			c.log.Warn("channel takes no messages, trying again until it does", "incident", m.Data.Conversation(), "decision", m.Data.About().ID, "err", err)
		}
	case outcomeFailed:
		c.word(ctx, c.line.Name, err, now)
	}
	return err
}

// errOvertaken says that the place knows more already, or will by a message
// that is on its way.
var errOvertaken = errors.New("overtaken")

// tell hands n over, unless its place knows it, and remembers that. What is
// remembered beforehand tells a channel what may have come of it when we die in
// between.
func (c *courier) tell(ctx context.Context, n heal.Notification) error {
	if n.Seq == 0 {
		_, err := c.line.Tell(ctx, n, "") // a machine's, which has no conversation
		return err
	}
	key := key("m", heal.ID("k", n.Channel, n.To, n.Conversation()))
	d, rev, err := c.deliveries.Get(ctx, key)
	switch {
	case errors.Is(err, bus.ErrNotFound):
		d = delivery{}
	case err != nil:
		return err
	case n.Seq < d.Seq, n.Seq == d.Seq && n.Again <= d.Again:
		return errOvertaken
	}
	if c.line.Talks() && n.Digest == nil {
		newest, err := c.newest(ctx, n)
		if err != nil {
			return err
		}
		if newest > n.Seq {
			return errOvertaken
		}
	}
	note := func(d delivery) error {
		if rev == 0 {
			rev, err = c.deliveries.Create(ctx, key, d)
		} else {
			rev, err = c.deliveries.Update(ctx, key, d, rev)
		}
		return err
	}
	if during := c.line.During(n, d.Ref); during != d.Ref {
		if err := note(delivery{Ref: during, Seq: d.Seq, Again: d.Again}); err != nil {
			return err
		}
	}
	after, err := c.line.Tell(ctx, n, d.Ref)
	if err != nil {
		return err
	}
	return note(delivery{Ref: after, Seq: n.Seq, Again: n.Again})
}

// newest is the change of n's incident that n's place is told of last.
func (d *desk) newest(ctx context.Context, n heal.Notification) (int, error) {
	i, _, err := d.talks.Get(ctx, incidentKey(n.Conversation()))
	if errors.Is(err, bus.ErrNotFound) {
		return 0, nil
	}
	if t := i.Told[route.Listener{Channel: n.Channel, To: n.To}.Place()]; !t.Kept && t.Digest == "" {
		return t.Seq, err
	}
	return 0, err
}

// judge says what becomes of a message that Send returned err for, at its
// attempt's delivery, when it is age old.
func judge(err error, attempt uint64, age, giveUp time.Duration) (string, error) {
	var send *channel.SendError
	switch {
	case err == nil:
		return outcomeSent, nil
	case errors.As(err, &send) && send.Permanent:
		return outcomeFailed, bus.Permanent(err)
	case age >= giveUp:
		return outcomeFailed, bus.Permanent(fmt.Errorf("given up after %s: %w", giveUp, err))
	}
	delay := backoff(attempt)
	if send != nil && send.After > 0 {
		delay = send.After
	}
	return outcomeRetried, bus.Later(err, delay)
}

// backoff doubles from 2 s up to 1 min.
func backoff(attempt uint64) time.Duration {
	const limit = time.Minute
	if attempt >= 6 {
		return limit
	}
	return min(limit, time.Second<<attempt)
}
