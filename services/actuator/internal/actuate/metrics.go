package actuate

import (
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// metrics are what the actuator counts.
type metrics struct {
	attempted *prometheus.CounterVec
	ended     *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	endToEnd  *prometheus.HistogramVec
	vetoes    *prometheus.CounterVec

	successful atomic.Int64 // the same for /status
	failed     atomic.Int64
}

// newMetrics registers with r; nil keeps none. What may be counted of actions
// and guards is there from the start: a rate needs the zero before the first.
func newMetrics(r prometheus.Registerer, actions map[action.Key]action.Action, guards []guard.Guard) (*metrics, error) {
	// From an eviction that is verified at once to a node that takes an hour.
	buckets := []float64{0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 240, 300, 450, 600, 1200, 3600}
	m := &metrics{
		attempted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: heal.MetricPrefix + "recoveries_attempted_total", Help: "Decisions that came to a first change of the cluster.",
		}, []string{"type", "strategy"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: heal.MetricPrefix + "recoveries_total", Help: "Decisions by how they ended.",
		}, []string{"type", "strategy", "outcome"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: heal.MetricPrefix + "recovery_duration_seconds", Help: "From taking up a decision that changed the cluster to its result.", Buckets: buckets,
		}, []string{"type"}),
		endToEnd: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: heal.MetricPrefix + "end_to_end_seconds", Help: "From first seeing a failure to its verified recovery.", Buckets: buckets,
		}, []string{"type"}),
		vetoes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: heal.MetricPrefix + "guard_vetoes_total", Help: "Decisions that a guard refused.",
		}, []string{"guard"}),
	}
	for k := range actions {
		m.attempted.WithLabelValues(string(k.Type), string(k.Strategy))
		for _, o := range heal.Outcomes {
			m.ended.WithLabelValues(string(k.Type), string(k.Strategy), string(o))
		}
		m.duration.WithLabelValues(string(k.Type))
		m.endToEnd.WithLabelValues(string(k.Type))
	}
	for _, g := range guards {
		m.vetoes.WithLabelValues(g.Name)
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.attempted, m.ended, m.duration, m.endToEnd, m.vetoes} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// result counts a result, once.
func (m *metrics) result(r heal.Result, veto string, acted bool) {
	d := r.Decision
	m.ended.WithLabelValues(string(d.Type), string(d.Strategy), string(r.Outcome)).Inc()
	if veto != "" && r.Outcome == heal.Rejected {
		m.vetoes.WithLabelValues(veto).Inc()
	}
	if acted {
		m.duration.WithLabelValues(string(d.Type)).Observe(r.Duration)
	}
	switch r.Outcome {
	case heal.Succeeded:
		m.successful.Add(1)
		m.endToEnd.WithLabelValues(string(d.Type)).Observe(max(0, time.Since(d.Failure.FirstSeen)).Seconds())
	case heal.Failed, heal.TimedOut:
		m.failed.Add(1)
	}
}
