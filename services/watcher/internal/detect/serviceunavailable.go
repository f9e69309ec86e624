package detect

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/selfheal/selfheal/pkg/heal"
)

// serviceUnavailable finds services behind which nothing is ready. The reason
// says why: what it selects is not ready, is gone, or never was there.
var serviceUnavailable = Detector[*corev1.Service]{
	Name: "service_unavailable",
	Row:  "S1, S2",
	Type: heal.ServiceFailure,

	Reasons: []string{noReadyEndpoints, endpointsLost, selectorMatchesNothing},
	Hold:    "2 × `pod_check_interval`; 4 × of it if it never had an endpoint",
	Excused: serviceUncounted + "; " + serviceExcused + "; it is the cluster's DNS (dns_unavailable)",

	Find:   findServiceUnavailable,
	Excuse: serviceExcuse,
	Clear:  func(t Thresholds) time.Duration { return t.PodCheckInterval },
}

const (
	noReadyEndpoints       = "NoReadyEndpoints"
	endpointsLost          = "EndpointsLost"
	selectorMatchesNothing = "SelectorMatchesNothing"
)

func findServiceUnavailable(s *corev1.Service, facts Facts) []Finding {
	e := facts.Endpoints
	if !counted(s) || isDNS(s) || !e.Known || e.Ready > 0 {
		return nil
	}
	f := Finding{Hold: 2 * facts.PodCheckInterval, Evidence: endpointEvidence(s, e), Metadata: endpointMetadata(e)}
	if standby := s.Annotations[heal.AnnotationStandby]; standby != "" {
		f.Metadata["standby"] = standby
	}
	selector := labels.FormatLabels(s.Spec.Selector)
	switch {
	case e.Total > 0:
		f.Reason = noReadyEndpoints
		f.Description = fmt.Sprintf("service %s reaches nothing: none of its %s is ready", s.Name, count(e.Total, "endpoint"))
	case e.Had:
		f.Reason = endpointsLost
		f.Description = fmt.Sprintf("service %s reaches nothing: no pod with an address matches its selector %s any more", s.Name, selector)
	default:
		f.Reason, f.Hold = selectorMatchesNothing, 4*facts.PodCheckInterval
		f.Description = fmt.Sprintf("service %s reaches nothing: no pod with an address ever matched its selector %s", s.Name, selector)
	}
	return []Finding{f}
}
