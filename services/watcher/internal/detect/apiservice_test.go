package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestAPIWhoseServiceDoesNotAnswerIsFound(t *testing.T) {
	api := func(group string, status apiregistrationv1.ConditionStatus) *apiregistrationv1.APIService {
		return &apiregistrationv1.APIService{
			ObjectMeta: metav1.ObjectMeta{Name: "v1." + group},
			Spec:       apiregistrationv1.APIServiceSpec{Group: group, Version: "v1", Service: &apiregistrationv1.ServiceReference{Namespace: "custom", Name: "adapter"}},
			Status: apiregistrationv1.APIServiceStatus{Conditions: []apiregistrationv1.APIServiceCondition{
				{Type: apiregistrationv1.Available, Status: status, Reason: "ServiceNotFound", Message: `service/adapter in "custom" is not present`},
			}},
		}
	}
	local := api("apps", apiregistrationv1.ConditionFalse)
	local.Spec.Service = nil
	unjudged := api("example.com", apiregistrationv1.ConditionFalse)
	unjudged.Status.Conditions = nil
	finding := func(group string, more map[string]string) []Finding {
		f := Finding{
			Reason: "APIServiceUnavailable", Hold: 2 * time.Minute,
			Description: "API v1." + group + ` of service custom/adapter is not available: service/adapter in "custom" is not present`,
			Evidence: []heal.Evidence{
				{Path: "status.conditions[0].status", Value: "False"},
				{Path: "status.conditions[0].reason", Value: "ServiceNotFound"},
				{Path: "spec.service", Value: "custom/adapter"},
				{Path: "status.conditions[0].message", Value: `service/adapter in "custom" is not present`},
			},
			Metadata: map[string]string{"service": "custom/adapter", "group": group, "condition_reason": "ServiceNotFound"},
		}
		for k, v := range more {
			f.Metadata[k] = v
		}
		return []Finding{f}
	}
	tests := []struct {
		name string
		api  *apiregistrationv1.APIService
		want []Finding
		well bool
	}{
		{"not available", api("example.com", apiregistrationv1.ConditionFalse), finding("example.com", nil), false},
		{"the API of metrics is critical", api("metrics.k8s.io", apiregistrationv1.ConditionFalse), finding("metrics.k8s.io", map[string]string{"critical": "true"}), false},
		{"available", api("example.com", apiregistrationv1.ConditionTrue), nil, true},
		{"nobody knows", api("example.com", apiregistrationv1.ConditionUnknown), nil, false},
		{"not judged yet", unjudged, nil, false},
		{"the API server's own", local, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, apiUnavailable.Find(tt.api, facts(Endpoints{}))); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			if got := apiUnavailable.Well(tt.api, ""); got != tt.well {
				t.Errorf("well: %v, want %v", got, tt.well)
			}
		})
	}
	deleted := api("example.com", apiregistrationv1.ConditionFalse)
	deleted.DeletionTimestamp = &metav1.Time{Time: noon}
	if got := apiUnavailable.Excuse(deleted, Facts{}); got != Leaving {
		t.Errorf("excuse of a deleted one = %v, want %v", got, Leaving)
	}
}
