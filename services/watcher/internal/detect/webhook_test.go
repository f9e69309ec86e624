package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func calling(service string) admissionv1.WebhookClientConfig {
	return admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: "policy", Name: service}}
}

func TestWebhookThatRefusesEverythingIsFound(t *testing.T) {
	fail, ignore := admissionv1.Fail, admissionv1.Ignore
	url := "https://policy.example.com"
	at := func(policy *admissionv1.FailurePolicyType, client admissionv1.WebhookClientConfig) []admissionv1.ValidatingWebhook {
		return []admissionv1.ValidatingWebhook{{Name: "pods.policy.example.com", FailurePolicy: policy, ClientConfig: client}}
	}
	down := Backed{Endpoints: Endpoints{Known: true, Total: 2}}
	finding := func(state, ready, exists string) []Finding {
		return []Finding{{
			Part: "policy/hook", Reason: "WebhookBackendDown", Hold: time.Minute,
			Description: "webhook pods.policy.example.com of policy refuses whatever it is asked about: nobody answers at service policy/hook, " + state,
			Evidence: []heal.Evidence{
				{Path: "webhooks[0].name", Value: "pods.policy.example.com"},
				{Path: "webhooks[0].failurePolicy", Value: "Fail"},
				{Path: "webhooks[0].clientConfig.service", Value: "policy/hook"},
				{Path: "endpointslices[*].endpoints[*].conditions.ready", Value: ready},
			},
			Metadata: map[string]string{"webhook": "pods.policy.example.com", "service": "policy/hook", "service_exists": exists, "critical": "true"},
		}}
	}
	tests := []struct {
		name     string
		webhooks []admissionv1.ValidatingWebhook
		backend  Backed
		want     []Finding
	}{
		{"none is ready", at(&fail, calling("hook")), down, finding("none of its 2 endpoints is ready", "0 of 2", "true")},
		{"to fail is the default", at(nil, calling("hook")), down, finding("none of its 2 endpoints is ready", "0 of 2", "true")},
		{"no endpoint", at(&fail, calling("hook")), Backed{Endpoints: Endpoints{Known: true}}, finding("it has no endpoint", "0 of 0", "true")},
		{"no service", at(&fail, calling("hook")), Backed{Missing: true}, finding("it does not exist", "0 of 0", "false")},
		{"several webhooks of one service", append(at(&fail, calling("hook")), at(&fail, calling("hook"))...), down, finding("none of its 2 endpoints is ready", "0 of 2", "true")},
		{"one answers", at(&fail, calling("hook")), Backed{Endpoints: Endpoints{Known: true, Ready: 1, Total: 2}}, nil},
		{"nothing is known of the service", at(&fail, calling("hook")), Backed{}, nil},
		{"lets requests pass", at(&ignore, calling("hook")), down, nil},
		{"is outside the cluster", at(&fail, admissionv1.WebhookClientConfig{URL: &url}), down, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			backends := map[Backend]Backed{{Namespace: "policy", Name: "hook"}: tt.backend}
			f := Facts{Now: noon, Thresholds: defaults, EndpointsRead: true, Backends: backends}
			validating := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "policy"}, Webhooks: tt.webhooks}
			if diff := cmp.Diff(tt.want, validatingWebhookDown.Find(validating, f)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
			mutating := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "policy"}}
			for _, w := range tt.webhooks {
				mutating.Webhooks = append(mutating.Webhooks, admissionv1.MutatingWebhook{Name: w.Name, FailurePolicy: w.FailurePolicy, ClientConfig: w.ClientConfig})
			}
			if diff := cmp.Diff(tt.want, mutatingWebhookDown.Find(mutating, f)); diff != "" {
				t.Errorf("findings of a mutating one (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWebhookThatComesOrGoesIsExcused(t *testing.T) {
	aged := func(age time.Duration) metav1.ObjectMeta {
		return metav1.ObjectMeta{CreationTimestamp: metav1.Time{Time: noon.Add(-age)}}
	}
	deleted := aged(time.Hour)
	deleted.DeletionTimestamp = &metav1.Time{Time: noon}
	tests := []struct {
		name string
		meta metav1.ObjectMeta
		read bool
		want Excuse
	}{
		{"any other is not", aged(10 * time.Minute), true, None},
		{"just registered", aged(9 * time.Minute), true, Masked},
		{"deleted", deleted, true, Leaving},
		{"not all slices were read", aged(time.Hour), false, Masked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: tt.meta}
			if got := validatingWebhookDown.Excuse(c, Facts{Now: noon, EndpointsRead: tt.read}); got != tt.want {
				t.Errorf("excuse = %v, want %v", got, tt.want)
			}
		})
	}
}
