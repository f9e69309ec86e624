package detect

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// serviceDegraded finds services of which less than half is ready of what was
// ready when all was steady. Both must have fallen: the number (scaling up, and
// a roll-out, only add what is not ready yet), and its share of the whole
// (scaling down takes away what was ready).
var serviceDegraded = Detector[*corev1.Service]{
	Name: "service_degraded",
	Row:  "S5",
	Type: heal.ServiceFailure,

	Reasons: []string{"EndpointsDegraded"},
	Hold:    "6 × `pod_check_interval`",
	Excused: serviceUncounted + "; " + serviceExcused + "; it was scaled up or down; no level was seen steady for 5 min; nothing is ready (service_unavailable)",

	Find:   findServiceDegraded,
	Excuse: serviceExcuse,
	Clear:  func(t Thresholds) time.Duration { return 2 * t.PodCheckInterval },
}

// ServiceSteady is how long the endpoints of a service must not have changed
// to be what is usual for it.
const ServiceSteady = 5 * time.Minute

func findServiceDegraded(s *corev1.Service, facts Facts) []Finding {
	e := facts.Endpoints
	if !counted(s) || !e.Known || !e.Degraded() {
		return nil
	}
	f := Finding{
		Reason: "EndpointsDegraded", Hold: 6 * facts.PodCheckInterval,
		Description: fmt.Sprintf("service %s is degraded: %d of %s ready, usually %d of %d",
			s.Name, e.Ready, count(e.Total, "endpoint"), e.Former.Ready, e.Former.Total),
		Evidence: endpointEvidence(s, e),
		Metadata: endpointMetadata(e),
	}
	f.Metadata["usually_ready"] = strconv.Itoa(e.Former.Ready)
	f.Metadata["usually_total"] = strconv.Itoa(e.Former.Total)
	return []Finding{f}
}

// Degraded reports whether something is ready, but less than half of what it
// usually is.
func (e Endpoints) Degraded() bool {
	return e.Ready > 0 && e.Ready < e.Total &&
		2*e.Ready < e.Former.Ready &&
		2*e.Ready*e.Former.Total < e.Former.Ready*e.Total
}
