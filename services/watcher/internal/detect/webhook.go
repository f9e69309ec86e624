package detect

import (
	"fmt"
	"strconv"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

var (
	validatingWebhookDown = webhookDown("validating_webhook_down", ValidatingCalls)
	mutatingWebhookDown   = webhookDown("mutating_webhook_down", MutatingCalls)
)

// A Backend is a service that the API server calls.
type Backend struct{ Namespace, Name string }

func (b Backend) String() string { return b.Namespace + "/" + b.Name }

// A Backed is what is known of a Backend.
type Backed struct {
	Missing   bool // there is no such service, and we see all services
	Endpoints Endpoints
}

// down reports whether the API server reaches nobody there.
func (b Backed) down() bool { return b.Missing || b.Endpoints.Known && b.Endpoints.Ready == 0 }

// webhookDown makes a detector of webhooks that refuse every request that they
// are asked about, because nobody answers for them.
func webhookDown[T metav1.Object](name string, calls func(T) []Call) Detector[T] {
	return Detector[T]{
		Name: name,
		Row:  "S7",
		Type: heal.ServiceFailure,

		Reasons: []string{"WebhookBackendDown"},
		Hold:    "2 × `pod_check_interval`",
		Excused: "the configuration is deleted; it lets requests pass (`failurePolicy: Ignore`), or calls a URL; it is younger than 10 min; not all slices have been read yet",

		Find: func(obj T, facts Facts) []Finding {
			var found []Finding
			for _, c := range calls(obj) {
				b := facts.Backends[c.Backend]
				if !b.down() || said(found, c.Backend) {
					continue
				}
				found = append(found, c.finding(obj.GetName(), b, facts))
			}
			return found
		},
		Excuse: func(obj T, facts Facts) Excuse {
			if obj.GetDeletionTimestamp() != nil {
				return Leaving
			}
			if !facts.EndpointsRead || facts.Now.Sub(obj.GetCreationTimestamp().Time) < serviceBootstrap {
				return Masked
			}
			return None
		},
		Clear: func(t Thresholds) time.Duration { return t.PodCheckInterval },
	}
}

// A Call is a webhook that must be answered by a backend.
type Call struct {
	Index   int // in the configuration
	Name    string
	Backend Backend
}

func (c Call) finding(configuration string, b Backed, facts Facts) Finding {
	path := fmt.Sprintf("webhooks[%d]", c.Index)
	state := fmt.Sprintf("none of its %s is ready", count(b.Endpoints.Total, "endpoint"))
	switch {
	case b.Missing:
		state = "it does not exist"
	case b.Endpoints.Total == 0:
		state = "it has no endpoint"
	}
	return Finding{
		Part: c.Backend.String(), Reason: "WebhookBackendDown", Hold: 2 * facts.PodCheckInterval,
		Description: fmt.Sprintf("webhook %s of %s refuses whatever it is asked about: nobody answers at service %s, %s", c.Name, configuration, c.Backend, state),
		Evidence: []heal.Evidence{
			{Path: path + ".name", Value: c.Name},
			{Path: path + ".failurePolicy", Value: string(admissionv1.Fail)},
			{Path: path + ".clientConfig.service", Value: c.Backend.String()},
			{Path: "endpointslices[*].endpoints[*].conditions.ready", Value: fmt.Sprintf("%d of %d", b.Endpoints.Ready, b.Endpoints.Total)},
		},
		Metadata: critical(map[string]string{
			"webhook": c.Name, "service": c.Backend.String(), "service_exists": strconv.FormatBool(!b.Missing),
		}),
	}
}

func said(found []Finding, b Backend) bool {
	for i := range found {
		if found[i].Part == b.String() {
			return true
		}
	}
	return false
}

// strict gives the backend of a webhook without whose answer a request fails.
// (The API's default is to fail.)
func strict(policy *admissionv1.FailurePolicyType, client admissionv1.WebhookClientConfig) (Backend, bool) {
	if policy != nil && *policy != admissionv1.Fail || client.Service == nil {
		return Backend{}, false
	}
	return Backend{Namespace: client.Service.Namespace, Name: client.Service.Name}, true
}

// ValidatingCalls are the webhooks without whose answer requests fail.
func ValidatingCalls(c *admissionv1.ValidatingWebhookConfiguration) []Call {
	var calls []Call
	for i := range c.Webhooks {
		if b, ok := strict(c.Webhooks[i].FailurePolicy, c.Webhooks[i].ClientConfig); ok {
			calls = append(calls, Call{i, c.Webhooks[i].Name, b})
		}
	}
	return calls
}

// MutatingCalls is what ValidatingCalls is for the other kind.
func MutatingCalls(c *admissionv1.MutatingWebhookConfiguration) []Call {
	var calls []Call
	for i := range c.Webhooks {
		if b, ok := strict(c.Webhooks[i].FailurePolicy, c.Webhooks[i].ClientConfig); ok {
			calls = append(calls, Call{i, c.Webhooks[i].Name, b})
		}
	}
	return calls
}
