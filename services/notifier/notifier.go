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
	"sync/atomic"
	"time"

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
	GiveUp      time.Duration   // a message is given up when it could not be handed over for so long; default 24 h
}

// Deps are what Run works with. Bus is required.
type Deps struct {
	Bus     *bus.Bus
	Log     *slog.Logger                           // default: discard
	Metrics prometheus.Registerer                  // default: none are kept
	Check   func(field string, check func() error) // of readiness; default: nobody asks
}

// Service is the notifier as a process, and as a part of one.
func Service() daemon.Service {
	return daemon.Service{
		Name:    Name,
		Summary: "Tells people, and machines, what became of each failure.",
		Run: func(ctx context.Context, d *daemon.Daemon) error {
			return Run(ctx, Config{Settings: d.Settings}, Deps{Bus: d.Bus, Log: d.Log, Metrics: d.Metrics, Check: d.Check})
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
	log := deps.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	lines, err := channel.Open(cfg.Settings, cfg.SendTimeout)
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
	d := dispatcher{bus: deps.Bus, log: log, metrics: m}
	g, ctx := errgroup.WithContext(ctx)
	for _, line := range lines {
		d.listeners = append(d.listeners, line.Listeners...)
		m.expect(line.Name)
		c := &courier{line: line, enabled: cfg.Settings.NotificationEnabled, giveUp: cfg.GiveUp, log: log.With("channel", line.Name), metrics: m}
		g.Go(func() error {
			return bus.Notifications.Consume(ctx, deps.Bus, bus.Consumer{
				Name:    Name + "-" + line.Name,
				Filter:  line.Name + ".>",
				Workers: 1, // in order, and never two at once for one rate limit
				Timeout: cfg.SendTimeout + 20*time.Second,
				Backoff: backoff,
			}, c.deliver)
		})
	}
	g.Go(func() error {
		listening.Store(true)
		defer listening.Store(false)
		return bus.Results.Consume(ctx, deps.Bus, bus.Consumer{Name: Name, Workers: 4, Timeout: 30 * time.Second, Backoff: backoff}, d.dispatch)
	})
	return g.Wait()
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
	for _, setting := range channel.Unserved(s) {
		log.Warn("a setting asks for a channel that this version does not have, nobody is told there", "setting", setting)
	}
	log.Info("notifier starts", "channels", names, "enabled", s.NotificationEnabled)
}

// A dispatcher is the first hop: results to notifications.
type dispatcher struct {
	bus       *bus.Bus
	log       *slog.Logger
	metrics   metrics
	listeners []route.Listener
}

// dispatch stores one notification for each listener that is to hear of the
// result. Doing so again does nothing: their ids follow from the result.
func (d dispatcher) dispatch(ctx context.Context, m bus.Message[heal.Result]) error {
	r := m.Data
	told, spared := route.Route(d.listeners, r, time.Since(m.Stored))
	var errs []error
	for _, l := range told {
		errs = append(errs, bus.Notifications.Publish(ctx, d.bus, heal.Notification{
			Channel: l.Channel, To: l.To, Severity: r.Decision.Severity, Result: r,
			Origin: heal.MakeOrigin(m.Event, m.Stored),
		}))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, l := range spared {
		d.metrics.count(l.Channel, outcomeSuppressed)
	}
	d.log.Debug("result dispatched", "incident", r.Decision.IncidentID, "decision", r.Decision.ID, "outcome", r.Outcome, "told", len(told), "spared", len(spared))
	return nil
}

// A courier is the second hop: notifications of one channel to the other side.
type courier struct {
	line    *channel.Line
	enabled bool
	giveUp  time.Duration
	log     *slog.Logger
	metrics metrics
	failing atomic.Bool // so that a channel's trouble is said once, not with every message
}

// deliver hands one notification over. It is done with it only when the other
// side has taken it.
func (c *courier) deliver(ctx context.Context, m bus.Message[heal.Notification]) error {
	if !c.enabled {
		c.metrics.count(c.line.Name, outcomeSuppressed)
		return nil
	}
	err := c.line.Send(ctx, m.Data)
	now := time.Now()
	outcome, err := judge(err, m.Attempt, now.Sub(m.Stored), c.giveUp)
	c.metrics.count(c.line.Name, outcome)
	d := m.Data.Result.Decision
	switch outcome {
	case outcomeSent:
		since := m.Data.Origin.Stored
		if since.IsZero() {
			since = m.Stored
		}
		latency := max(0, now.Sub(since))
		c.metrics.latency.WithLabelValues(c.line.Name).Observe(latency.Seconds())
		c.log.Info("told", "to", m.Data.To, "incident", d.IncidentID, "decision", d.ID, "target", d.Target.String(), "outcome", m.Data.Result.Outcome, "latency", latency.String())
		if c.failing.Swap(false) {
			c.log.Info("channel takes messages again")
		}
	case outcomeRetried:
		if !c.failing.Swap(true) {
			c.log.Warn("channel takes no messages, trying again until it does", "incident", d.IncidentID, "decision", d.ID, "err", err)
		}
	}
	return err
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
