package analyzer

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/guard"
)

// metrics are the contract's, as far as the analyzer knows them.
type metrics struct {
	failures  *prometheus.CounterVec
	decisions *prometheus.CounterVec
	vetoes    *prometheus.CounterVec
}

// newMetrics registers the metrics. count says what is failing just now.
func newMetrics(to prometheus.Registerer, count countFunc, log *slog.Logger) (metrics, error) {
	m := metrics{
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: heal.MetricPrefix + "failures_detected_total", Help: "Failures (episodes) that were judged, by the severity they were first given.",
		}, []string{"type", "severity"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: heal.MetricPrefix + "decisions_total", Help: "Decisions made, one for each announcement of a failure.",
		}, []string{"type", "strategy", "severity", "reason"}),
		vetoes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: heal.MetricPrefix + "guard_vetoes_total", Help: "Vetoes, by the guard that gave them.",
		}, []string{"guard"}),
	}
	// What is usual exists from the start: a rate needs the zero before the first.
	for _, t := range heal.FailureTypes {
		for _, severity := range heal.Severities {
			m.failures.WithLabelValues(string(t), string(severity))
		}
		m.decisions.WithLabelValues(string(t), string(heal.Monitor), string(t.BaseSeverity()), heal.ReasonRecoveryUnderWay)
	}
	for _, name := range guard.Names() {
		m.vetoes.WithLabelValues(name)
	}
	if to == nil {
		return m, nil
	}
	return m, errors.Join(to.Register(m.failures), to.Register(m.decisions), to.Register(m.vetoes),
		to.Register(&active{count: count, log: log}))
}

// note counts a decision. Every label is one of a closed set: reasons of
// decisions are constants of this module.
func (m metrics) note(made judgement) {
	d := made.decision
	if made.episode {
		m.failures.WithLabelValues(string(d.Failure.Type), string(d.Severity)).Inc()
	}
	m.decisions.WithLabelValues(string(d.Type), string(d.Strategy), string(d.Severity), d.Reason).Inc()
	for _, v := range d.Guards {
		if !v.Allowed {
			m.vetoes.WithLabelValues(v.Name).Inc()
		}
	}
}

// A countFunc counts the failures that are going on, by type.
type countFunc func(ctx context.Context, now time.Time) (map[heal.FailureType]int, error)

// active is the gauge of failures that are going on. It is counted anew from
// the stored state at each scrape, so that it cannot drift, and is the same in
// every analyzer. While the state cannot be read it stays as it was.
type active struct {
	count countFunc
	log   *slog.Logger

	mu   sync.Mutex // guards last
	last map[heal.FailureType]int
}

// countPatience is far below the usual timeout of a scrape, 10 s.
const countPatience = 3 * time.Second

func (a *active) desc() *prometheus.Desc {
	return prometheus.NewDesc(heal.MetricPrefix+"active_failures", "Failures (episodes) that are going on, in the whole cluster.", []string{"type"}, nil)
}

// Describe implements prometheus.Collector.
func (a *active) Describe(to chan<- *prometheus.Desc) { to <- a.desc() }

// Collect implements prometheus.Collector.
func (a *active) Collect(to chan<- prometheus.Metric) {
	// Prometheus hands no context to collectors.
	ctx, cancel := context.WithTimeout(context.Background(), countPatience)
	defer cancel()
	now, err := a.count(ctx, time.Now())
	if err != nil {
		a.log.Debug("active failures are those of the scrape before", "err", err)
	}
	a.mu.Lock()
	if err == nil {
		a.last = now
	}
	last := a.last
	a.mu.Unlock()
	for _, t := range heal.FailureTypes {
		to <- prometheus.MustNewConstMetric(a.desc(), prometheus.GaugeValue, float64(last[t]), string(t))
	}
}
