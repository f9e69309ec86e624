package watch

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/selfheal/selfheal/pkg/heal"
)

type metrics struct {
	observations *prometheus.CounterVec
	published    *prometheus.CounterVec
}

// The values of the label state.
const (
	stateDetected = "detected"
	stateResolved = "resolved"
)

// newMetrics registers with r; nil keeps none.
func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		observations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: heal.MetricPrefix + "observations_total", Help: "Sightings of something failing, or that would be if it lasted.",
		}, []string{"type"}),
		published: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: heal.MetricPrefix + "events_published_total", Help: "Failure events stored on the bus.",
		}, []string{"type", "state"}),
	}
	for _, t := range heal.FailureTypes { // so that every series exists from the start
		m.observations.WithLabelValues(string(t))
		m.published.WithLabelValues(string(t), stateDetected)
		m.published.WithLabelValues(string(t), stateResolved)
	}
	if r == nil {
		return m, nil
	}
	return m, errors.Join(r.Register(m.observations), r.Register(m.published))
}
