package watch

import (
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// The configurations are kept: they fail when their services do.
var (
	validatingWebhooks = kind{
		Version:  "admissionregistration.k8s.io/v1",
		Kind:     "ValidatingWebhookConfiguration",
		Group:    "admissionregistration.k8s.io",
		Resource: "validatingwebhookconfigurations",
		Optional: true,
		Keep:     true,
		New:      func() object { return new(admissionv1.ValidatingWebhookConfiguration) },
		Slim:     slimValidatingWebhooks,
		Open: func(w *Watcher, k kind) view {
			return openWebhooks(w, k, detect.ValidatingWebhooks, detect.ValidatingCalls)
		},
	}
	mutatingWebhooks = kind{
		Version:  "admissionregistration.k8s.io/v1",
		Kind:     "MutatingWebhookConfiguration",
		Group:    "admissionregistration.k8s.io",
		Resource: "mutatingwebhookconfigurations",
		Optional: true,
		Keep:     true,
		New:      func() object { return new(admissionv1.MutatingWebhookConfiguration) },
		Slim:     slimMutatingWebhooks,
		Open: func(w *Watcher, k kind) view {
			return openWebhooks(w, k, detect.MutatingWebhooks, detect.MutatingCalls)
		},
	}
)

func openWebhooks[T metav1.Object](w *Watcher, k kind, list []detect.Detector[T], calls func(T) []detect.Call) view {
	d := detectors[T]{kind: k, list: list, node: func(T) string { return "" }}
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			backends := map[detect.Backend]detect.Backed{}
			for _, c := range calls(obj.(T)) {
				backends[c.Backend] = w.backed(c.Backend)
			}
			return d.judge(obj.(T), detect.Facts{
				Now:           now,
				Thresholds:    w.cfg.Thresholds,
				EndpointsRead: w.read(endpointSlices.Version, endpointSlices.Kind),
				Backends:      backends,
			}, tracked)
		},
		change: func(obj metav1.Object, _ bool, _ time.Time) {
			c := caller{ref: ref{Version: k.Version, Kind: k.Kind, Name: obj.GetName()}}
			for _, call := range calls(obj.(T)) {
				c.backends = append(c.backends, call.Backend)
			}
			if w.network.callers == nil {
				w.network.callers = map[string]caller{}
			}
			w.network.callers[string(obj.GetUID())] = c
		},
		forget: func(uid string) { delete(w.network.callers, uid) },
	}
}

// backed is what is known of a service that is called.
func (w *Watcher) backed(b detect.Backend) detect.Backed {
	return detect.Backed{
		Missing:   w.read(services.Version, services.Kind) && w.find(services.Version, services.Kind, b.Namespace, b.Name) == nil,
		Endpoints: w.network.of(b),
	}
}

func slimValidatingWebhooks(obj any) any {
	c, ok := obj.(*admissionv1.ValidatingWebhookConfiguration)
	if !ok {
		return obj
	}
	slim := &admissionv1.ValidatingWebhookConfiguration{ObjectMeta: slimMeta(c.ObjectMeta)}
	for _, h := range c.Webhooks {
		slim.Webhooks = append(slim.Webhooks, admissionv1.ValidatingWebhook{
			Name: clip(h.Name), FailurePolicy: h.FailurePolicy, ClientConfig: slimClient(h.ClientConfig),
		})
	}
	return slim
}

func slimMutatingWebhooks(obj any) any {
	c, ok := obj.(*admissionv1.MutatingWebhookConfiguration)
	if !ok {
		return obj
	}
	slim := &admissionv1.MutatingWebhookConfiguration{ObjectMeta: slimMeta(c.ObjectMeta)}
	for _, h := range c.Webhooks {
		slim.Webhooks = append(slim.Webhooks, admissionv1.MutatingWebhook{
			Name: clip(h.Name), FailurePolicy: h.FailurePolicy, ClientConfig: slimClient(h.ClientConfig),
		})
	}
	return slim
}

// slimClient keeps which service is called; not its certificates, nor a URL.
func slimClient(c admissionv1.WebhookClientConfig) admissionv1.WebhookClientConfig {
	if c.Service == nil {
		return admissionv1.WebhookClientConfig{}
	}
	return admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{Namespace: c.Service.Namespace, Name: c.Service.Name}}
}
