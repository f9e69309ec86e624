package detect

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// servicePort finds ports of services that no pod behind them has: they name
// a container port that is not there. While nothing is ready,
// service_unavailable speaks for all ports.
var servicePort = Detector[*corev1.Service]{
	Name: "service_port",
	Row:  "S3",
	Type: heal.ServiceFailure,

	Reasons: []string{"PortMismatch"},
	// A service and its workload are changed one after the other.
	Hold:    "2 × `pod_check_interval`",
	Excused: serviceUncounted + "; " + serviceExcused + "; nothing is ready (service_unavailable)",

	Find:   findServicePort,
	Excuse: serviceExcuse,
}

func findServicePort(s *corev1.Service, facts Facts) []Finding {
	e := facts.Endpoints
	if !counted(s) || !e.Known || e.Ready == 0 {
		return nil
	}
	var found []Finding
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		if slices.Contains(e.Ports, p.Name) {
			continue
		}
		number := strconv.Itoa(int(p.Port))
		path := fmt.Sprintf("spec.ports[%d]", i)
		found = append(found, Finding{
			Part: number, Reason: "PortMismatch", Hold: 2 * facts.PodCheckInterval,
			Description: fmt.Sprintf("port %s of service %s leads nowhere: no pod behind it has a container port %s", number, s.Name, p.TargetPort.String()),
			Evidence: append([]heal.Evidence{
				{Path: path + ".port", Value: number},
				{Path: path + ".targetPort", Value: p.TargetPort.String()},
			}, endpointEvidence(s, e)...),
			Metadata: map[string]string{"port": number, "target_port": p.TargetPort.String()},
		})
	}
	return found
}
