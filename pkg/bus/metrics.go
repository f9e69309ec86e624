package bus

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selfheal/selfheal/pkg/heal"
)

// metrics are what every service tells about its messages.
type metrics struct {
	processed   *prometheus.CounterVec   // stream, outcome
	processing  *prometheus.HistogramVec // stream
	lag         *prometheus.HistogramVec // stream
	pending     *prometheus.GaugeVec     // stream, consumer
	ackPending  *prometheus.GaugeVec     // stream, consumer
	redelivered *prometheus.GaugeVec     // stream, consumer
	dead        *prometheus.CounterVec   // stage, reason
}

// What becomes of a delivery: the values of the label outcome.
const (
	outcomeOK    = "ok"
	outcomeRetry = "retry"
	outcomeLater = "later"
	outcomeDead  = "dead"
)

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: heal.MetricPrefix + name, Help: help}, labels)
	}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: heal.MetricPrefix + name, Help: help}, []string{"stream", "consumer"})
	}
	histogram := func(name, help string, buckets []float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: heal.MetricPrefix + name, Help: help, Buckets: buckets,
			// Native as well, for servers that scrape them: finer, and cheaper to store.
			NativeHistogramBucketFactor:     1.1,
			NativeHistogramMaxBucketNumber:  100,
			NativeHistogramMinResetDuration: time.Hour,
		}, []string{"stream"})
	}
	m := &metrics{
		processed:   counter("messages_processed_total", "Deliveries of messages, by what became of them: ok, retry, later (waits on purpose), dead.", "stream", "outcome"),
		processing:  histogram("message_processing_seconds", "Time that the handler took for one delivery.", []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}),
		lag:         histogram("stage_lag_seconds", "Time from a message being stored to its first delivery reaching the handler.", []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300}),
		pending:     gauge("consumer_pending", "Messages stored that the consumer was not given yet."),
		ackPending:  gauge("consumer_ack_pending", "Messages that the consumer was given and has not settled."),
		redelivered: gauge("consumer_redelivered", "Unsettled messages that the consumer was given more than once."),
		dead:        counter("dead_letters_total", "Messages given up and moved to the dead-letter stream.", "stage", "reason"),
	}
	if r == nil {
		return m, nil
	}
	var err error
	m.processed = register(r, m.processed, &err)
	m.processing = register(r, m.processing, &err)
	m.lag = register(r, m.lag, &err)
	m.pending = register(r, m.pending, &err)
	m.ackPending = register(r, m.ackPending, &err)
	m.redelivered = register(r, m.redelivered, &err)
	m.dead = register(r, m.dead, &err)
	if err != nil {
		return nil, fmt.Errorf("bus: metrics: %w", err)
	}
	return m, nil
}

// register returns c, or the one that another bus of this process registered
// before it: the pipeline in one process shares a registry.
func register[C prometheus.Collector](r prometheus.Registerer, c C, failed *error) C {
	err := r.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if same, ok := already.ExistingCollector.(C); ok {
			return same
		}
	}
	if err != nil {
		*failed = errors.Join(*failed, err)
	}
	return c
}

// expect makes every series of a consumer exist from the start: a rate needs
// the zero before the first.
func (m *metrics) expect(stream, consumer string) {
	for _, outcome := range []string{outcomeOK, outcomeRetry, outcomeLater, outcomeDead} {
		m.processed.WithLabelValues(stream, outcome)
	}
	for _, h := range []*prometheus.HistogramVec{m.processing, m.lag} {
		h.WithLabelValues(stream)
	}
	for _, g := range []*prometheus.GaugeVec{m.pending, m.ackPending, m.redelivered} {
		g.WithLabelValues(stream, consumer)
	}
	for _, reason := range heal.DeadReasons {
		m.dead.WithLabelValues(consumer, reason)
	}
}

// forget drops the figures of a consumer that this process no longer runs.
func (m *metrics) forget(stream, consumer string) {
	for _, g := range []*prometheus.GaugeVec{m.pending, m.ackPending, m.redelivered} {
		g.DeleteLabelValues(stream, consumer)
	}
}
