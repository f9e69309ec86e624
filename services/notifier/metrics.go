package notifier

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selfheal/selfheal/pkg/heal"
)

// metrics are what the notifier tells about itself.
type metrics struct {
	notifications *prometheus.CounterVec   // channel, outcome
	latency       *prometheus.HistogramVec // channel
}

// What becomes of a notification on a channel: the values of the label outcome.
const (
	outcomeSent       = "sent"
	outcomeRetried    = "retried"    // one attempt failed, there will be another
	outcomeFailed     = "failed"     // given up, in the dead-letter stream
	outcomeSuppressed = "suppressed" // not worth telling, or notifications are off
)

func newMetrics(r prometheus.Registerer) (metrics, error) {
	m := metrics{
		notifications: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: heal.MetricPrefix + "notifications_total",
			Help: "Notifications, by what became of them: sent, retried (one attempt failed), failed (given up), suppressed (not worth telling, or notifications are off).",
		}, []string{"channel", "outcome"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    heal.MetricPrefix + "notification_latency_seconds",
			Help:    "Time from a result being stored to the channel having taken it.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 86400},
		}, []string{"channel"}),
	}
	if r == nil {
		return m, nil
	}
	if err := errors.Join(r.Register(m.notifications), r.Register(m.latency)); err != nil {
		return m, fmt.Errorf("notifier: metrics: %w", err)
	}
	return m, nil
}

// expect makes every series of a channel exist from the start: a rate needs
// the zero before the first.
func (m metrics) expect(channel string) {
	for _, outcome := range []string{outcomeSent, outcomeRetried, outcomeFailed, outcomeSuppressed} {
		m.notifications.WithLabelValues(channel, outcome)
	}
	m.latency.WithLabelValues(channel)
}

func (m metrics) count(channel, outcome string) {
	m.notifications.WithLabelValues(channel, outcome).Inc()
}
