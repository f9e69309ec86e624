package watch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

func TestWebhookFailsAndWorksAgainWithItsService(t *testing.T) {
	w := &Watcher{
		cfg:    Config{Thresholds: detect.Thresholds{PodCheckInterval: 30 * time.Second}},
		wake:   make(chan struct{}, 1),
		judged: map[ref]struct{}{},
	}
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: web.Namespace, Name: web.Name}}
	w.sources = map[string]*source{ // all of it is read
		endpointSlices.key(): {kind: endpointSlices},
		services.key():       {kind: services, held: shelfOf(services, service)},
	}
	fail := admissionv1.Fail
	hook := slimValidatingWebhooks(&admissionv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "policy", UID: "uid-hook", CreationTimestamp: metav1.Time{Time: start.Add(-time.Hour)}},
		Webhooks: []admissionv1.ValidatingWebhook{{
			Name: "policy.example.com", FailurePolicy: &fail,
			ClientConfig: admissionv1.WebhookClientConfig{
				CABundle: []byte("canary"), Service: &admissionv1.ServiceReference{Namespace: web.Namespace, Name: web.Name},
			},
		}},
	}).(*admissionv1.ValidatingWebhookConfiguration)
	if hook.Webhooks[0].ClientConfig.CABundle != nil {
		t.Error("certificates are kept")
	}
	hooks, slices := validatingWebhooks.Open(w, validatingWebhooks), endpointSlices.Open(w, endpointSlices)
	hooks.change(hook, false, start)
	key := episode.Key{UID: "uid-hook", Detector: "validating_webhook_down", Part: "shop/web"}
	state := func() string {
		for _, s := range hooks.judge(hook, start, []episode.Key{key}) {
			if s.Key == key {
				return map[episode.State]string{episode.Failing: "failing", episode.Well: "well", episode.Excused: "excused", episode.Unclear: "unclear"}[s.State]
			}
		}
		return "not judged"
	}
	slice := func(ready, unready int) {
		slices.change(endpointSlice("a", discoveryv1.AddressTypeIPv4, ready, unready, "http"), true, start)
	}

	slice(1, 0)
	clear(w.judged)
	if got := state(); got != "well" {
		t.Errorf("while its service works it is %s, want well", got)
	}
	slice(0, 1)
	want := map[ref]struct{}{
		{Version: "v1", Kind: "Service", Namespace: web.Namespace, Name: web.Name}:                    {},
		{Version: validatingWebhooks.Version, Kind: "ValidatingWebhookConfiguration", Name: "policy"}: {},
	}
	if diff := cmp.Diff(want, w.judged); diff != "" {
		t.Errorf("judged again (-want +got):\n%s", diff)
	}
	if got := state(); got != "failing" {
		t.Errorf("when nothing of its service is ready it is %s, want failing", got)
	}
	slice(1, 0)
	if got := state(); got != "well" {
		t.Errorf("when its service works again it is %s, want well", got)
	}
	w.sources[services.key()].held.drop(nameOf(service), makeUID([]byte(service.UID)))
	if got := state(); got != "failing" {
		t.Errorf("without its service it is %s, want failing", got)
	}
	delete(w.sources, services.key())
	if got := state(); got != "well" {
		t.Errorf("when services are not seen it is %s, want well: its endpoints are", got)
	}
	hooks.forget("uid-hook")
	if len(w.network.callers) != 0 {
		t.Error("a configuration is remembered when it is gone")
	}
}
