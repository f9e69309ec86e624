package detect

import (
	"fmt"
	"time"

	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// apiUnavailable finds APIs that the API server hands on to a service, and
// that do not answer. One that it serves itself is always available.
var apiUnavailable = Detector[*apiregistrationv1.APIService]{
	Name: "api_unavailable",
	Row:  "R4",
	Type: heal.ServiceFailure,

	Reasons: []string{"APIServiceUnavailable"},
	Hold:    "4 × `pod_check_interval`",
	Excused: "the registration is deleted",

	Find: findAPIUnavailable,
	Excuse: func(a *apiregistrationv1.APIService, _ Facts) Excuse {
		if a.DeletionTimestamp != nil {
			return Leaving
		}
		return None
	},
	Well:  apiAvailable,
	Clear: func(t Thresholds) time.Duration { return t.PodCheckInterval },
}

func findAPIUnavailable(a *apiregistrationv1.APIService, facts Facts) []Finding {
	i, c := availableCondition(a)
	if a.Spec.Service == nil || c == nil || c.Status != apiregistrationv1.ConditionFalse {
		return nil
	}
	service := a.Spec.Service.Namespace + "/" + a.Spec.Service.Name
	path := fmt.Sprintf("status.conditions[%d]", i)
	f := Finding{
		Reason: "APIServiceUnavailable", Hold: 4 * facts.PodCheckInterval,
		Description: fmt.Sprintf("API %s of service %s is not available", a.Name, service),
		Evidence: []heal.Evidence{
			{Path: path + ".status", Value: string(c.Status)},
			{Path: path + ".reason", Value: c.Reason},
			{Path: "spec.service", Value: service},
		},
		Metadata: map[string]string{"service": service, "group": a.Spec.Group, "condition_reason": c.Reason},
	}
	if c.Message != "" {
		f.Description += ": " + c.Message
		f.Evidence = append(f.Evidence, heal.Evidence{Path: path + ".message", Value: c.Message})
	}
	if a.Spec.Group == "metrics.k8s.io" { // HPAs stand still, and so does who looks at usage
		f.Metadata = critical(f.Metadata)
	}
	return []Finding{f}
}

func apiAvailable(a *apiregistrationv1.APIService, _ string) bool {
	_, c := availableCondition(a)
	return c != nil && c.Status == apiregistrationv1.ConditionTrue
}

func availableCondition(a *apiregistrationv1.APIService) (int, *apiregistrationv1.APIServiceCondition) {
	for i := range a.Status.Conditions {
		if a.Status.Conditions[i].Type == apiregistrationv1.Available {
			return i, &a.Status.Conditions[i]
		}
	}
	return -1, nil
}
