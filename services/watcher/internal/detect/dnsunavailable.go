package detect

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// dnsUnavailable finds that the cluster's DNS answers nobody: then most other
// failures follow from this one. That it is scaled to zero, or starts again, is
// no excuse.
var dnsUnavailable = Detector[*corev1.Service]{
	Name: "dns_unavailable",
	Row:  "S7",
	Type: heal.ServiceFailure,

	Reasons: []string{"ClusterDNSUnavailable"},
	Hold:    "2 × `pod_check_interval`",
	Excused: "the service is deleted; it never had a ready endpoint and is younger than 10 min",

	Find: findDNSUnavailable,
	Excuse: func(s *corev1.Service, facts Facts) Excuse {
		facts.Idle, facts.Woke, facts.Endpoints.Began = false, time.Time{}, time.Time{}
		return serviceExcuse(s, facts)
	},
	Clear: func(t Thresholds) time.Duration { return t.PodCheckInterval },
}

// DNSLabel marks the cluster's DNS, whatever its name: DNSLabelKey=DNSLabel.
const (
	DNSLabelKey = "k8s-app"
	DNSLabel    = "kube-dns"
)

// isDNS reports whether a service is the cluster's DNS. Only in kube-system is
// the label believed; elsewhere anybody could set it.
func isDNS(s *corev1.Service) bool {
	return s.Namespace == "kube-system" && (s.Name == "kube-dns" || s.Labels[DNSLabelKey] == DNSLabel) &&
		len(s.Spec.Selector) > 0 && s.Spec.Type != corev1.ServiceTypeExternalName && !s.Spec.PublishNotReadyAddresses
}

func findDNSUnavailable(s *corev1.Service, facts Facts) []Finding {
	e := facts.Endpoints
	if !isDNS(s) || !e.Known || e.Ready > 0 {
		return nil
	}
	return []Finding{{
		Reason: "ClusterDNSUnavailable", Hold: 2 * facts.PodCheckInterval,
		Description: fmt.Sprintf("the cluster's DNS answers nobody: of service %s %d of %s are ready", s.Name, e.Ready, count(e.Total, "endpoint")),
		Evidence:    endpointEvidence(s, e),
		Metadata:    critical(endpointMetadata(e)),
	}}
}
