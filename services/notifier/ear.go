package notifier

import (
	"fmt"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selfheal/selfheal/pkg/heal"
)

// An ear says whether presses of a channel's buttons are heard. That they are
// not makes nobody unready: messages are told all the same, and say what to type.
type ear struct {
	log       *slog.Logger
	connected prometheus.Gauge

	mu    sync.Mutex
	state string // guarded by mu
}

func newEar(channel string, log *slog.Logger, deps Deps) (*ear, error) {
	e := &ear{log: log.With("channel", channel), state: "connecting", connected: prometheus.NewGauge(prometheus.GaugeOpts{
		Name: heal.MetricPrefix + "notification_buttons_connected", ConstLabels: prometheus.Labels{"channel": channel},
		Help: "1 while presses of the channel's buttons are heard, 0 while it cannot be reached for them.",
	})}
	if deps.Metrics != nil {
		if err := deps.Metrics.Register(e.connected); err != nil {
			return nil, fmt.Errorf("notifier: metrics: %w", err)
		}
	}
	if deps.Status != nil {
		deps.Status(func() map[string]any {
			e.mu.Lock()
			defer e.mu.Unlock()
			return map[string]any{channel + "_buttons": e.state}
		})
	}
	return e, nil
}

// hears takes in that the connection stands, or why it does not. Each change is
// said once.
func (e *ear) hears(err error) {
	state, up := "connected", 1.0
	if err != nil {
		state, up = "not connected: "+err.Error(), 0
	}
	e.connected.Set(up)
	e.mu.Lock()
	before := e.state
	e.state = state
	e.mu.Unlock()
	switch {
	case before == state:
	case err == nil:
		e.log.Info("buttons are heard")
	default:
		e.log.Warn("buttons are not heard, trying again until they are", "err", err)
	}
}
