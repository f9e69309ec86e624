package detect

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// loadBalancerPending finds services that nobody gives the load balancer that
// they ask for.
var loadBalancerPending = Detector[*corev1.Service]{
	Name: "load_balancer_pending",
	Row:  "S4",
	Type: heal.ServiceFailure,

	Reasons: []string{"LoadBalancerPending"},
	Hold:    "10 min",
	Excused: "the service is deleted",

	Find: findLoadBalancerPending,
	Excuse: func(s *corev1.Service, _ Facts) Excuse {
		if s.DeletionTimestamp != nil {
			return Leaving
		}
		return None
	},
}

const (
	loadBalancerHold = 10 * time.Minute

	// syncLoadBalancerFailed is the reason of Kubernetes events about services.
	syncLoadBalancerFailed = "SyncLoadBalancerFailed"
)

func findLoadBalancerPending(s *corev1.Service, facts Facts) []Finding {
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer || len(s.Status.LoadBalancer.Ingress) > 0 {
		return nil
	}
	f := Finding{
		Reason: "LoadBalancerPending", Hold: loadBalancerHold,
		Description: fmt.Sprintf("service %s has no load balancer", s.Name),
		Evidence: []heal.Evidence{
			{Path: "spec.type", Value: string(s.Spec.Type)},
			{Path: "status.loadBalancer.ingress", Value: "[]"},
		},
	}
	if class := s.Spec.LoadBalancerClass; class != nil {
		f.Description += " of class " + *class
		f.Evidence = append(f.Evidence, heal.Evidence{Path: "spec.loadBalancerClass", Value: *class})
	}
	if e := facts.event(syncLoadBalancerFailed, ""); e != nil {
		f.Description += ": " + e.Message
		f.Evidence = append(f.Evidence, e.evidence())
	}
	return []Finding{f}
}
