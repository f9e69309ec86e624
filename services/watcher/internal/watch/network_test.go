package watch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

var (
	start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	web   = detect.Backend{Namespace: "shop", Name: "web"}
)

// endpointSlice is one of service web, with so many endpoints of each sort.
func endpointSlice(uid string, family discoveryv1.AddressType, ready, unready int, ports ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: web.Namespace, Name: "web-" + uid, UID: types.UID(uid), Generation: 1,
			Labels: map[string]string{discoveryv1.LabelServiceName: web.Name, "note": "canary"},
		},
		AddressType: family,
	}
	yes, no := true, false
	add := func(n int, c discoveryv1.EndpointConditions) {
		for range n {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{"10.1.2.3"}, Conditions: c})
		}
	}
	add(ready, discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no})
	add(unready, discoveryv1.EndpointConditions{Ready: &no, Serving: &no, Terminating: &no})
	for i := range ports {
		s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &ports[i]})
	}
	return s
}

func (n *network) see(s *discoveryv1.EndpointSlice, after time.Duration) bool {
	of, c, had := countSlice(slimEndpointSlice(s).(*discoveryv1.EndpointSlice))
	return n.put(of, c, had, start.Add(after))
}

func TestEndpointsOfAServiceAreAddedUpOverItsSlices(t *testing.T) {
	const v4, v6 = discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	yes, no := true, false
	leaving := func(serving *bool) *discoveryv1.EndpointSlice {
		s := endpointSlice("a", v4, 1, 0, "http")
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Conditions: discoveryv1.EndpointConditions{Ready: &no, Serving: serving, Terminating: &yes}})
		return s
	}
	silent := endpointSlice("a", v4, 0, 0, "http")
	silent.Endpoints = []discoveryv1.Endpoint{{}}
	changed := endpointSlice("a", v4, 0, 0)
	changed.Generation = 2
	tests := []struct {
		name   string
		slices []*discoveryv1.EndpointSlice
		want   detect.Endpoints
	}{
		{"none", nil, detect.Endpoints{}},
		{"one slice", []*discoveryv1.EndpointSlice{endpointSlice("a", v4, 2, 1, "http")},
			detect.Endpoints{Known: true, Ready: 2, Serving: 2, Total: 3, Ports: []string{"http"}, Had: true, Proven: true}},
		{"two", []*discoveryv1.EndpointSlice{endpointSlice("a", v4, 2, 0, "http"), endpointSlice("b", v4, 1, 1, "metrics", "http")},
			detect.Endpoints{Known: true, Ready: 3, Serving: 3, Total: 4, Ports: []string{"http", "metrics"}, Had: true, Proven: true}},
		{"each pod has two addresses", []*discoveryv1.EndpointSlice{endpointSlice("a", v4, 2, 1, "http"), endpointSlice("b", v6, 2, 1, "http")},
			detect.Endpoints{Known: true, Ready: 2, Serving: 2, Total: 3, Ports: []string{"http"}, Had: true, Proven: true}},
		{"only those of one family are ready", []*discoveryv1.EndpointSlice{endpointSlice("a", v4, 0, 3, "http"), endpointSlice("b", v6, 1, 0, "http")},
			detect.Endpoints{Known: true, Ready: 1, Serving: 1, Total: 1, Ports: []string{"http"}, Had: true, Proven: true}},
		{"a changed slice takes the place of what it was", []*discoveryv1.EndpointSlice{endpointSlice("a", v4, 2, 1, "http"), endpointSlice("a", v4, 1, 1, "http")},
			detect.Endpoints{Known: true, Ready: 1, Serving: 1, Total: 2, Ports: []string{"http"}, Had: true, Proven: true}},
		{"one that is about to end does not count", []*discoveryv1.EndpointSlice{leaving(&no)},
			detect.Endpoints{Known: true, Ready: 1, Serving: 1, Total: 1, Ports: []string{"http"}, Had: true, Proven: true}},
		{"or as serving, while it does", []*discoveryv1.EndpointSlice{leaving(&yes)},
			detect.Endpoints{Known: true, Ready: 1, Serving: 2, Total: 1, Ports: []string{"http"}, Had: true, Proven: true}},
		{"without conditions it is ready", []*discoveryv1.EndpointSlice{silent},
			detect.Endpoints{Known: true, Ready: 1, Serving: 1, Total: 1, Ports: []string{"http"}, Had: true, Proven: true}},
		{"never any", []*discoveryv1.EndpointSlice{endpointSlice("a", v4, 0, 0)}, detect.Endpoints{Known: true}},
		{"none any more, before we came", []*discoveryv1.EndpointSlice{changed}, detect.Endpoints{Known: true, Had: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var n network
			for _, s := range tt.slices {
				n.see(s, 0)
			}
			if diff := cmp.Diff(tt.want, n.of(web)); diff != "" {
				t.Errorf("endpoints (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServiceIsJudgedAgainWhenItMayFailOrHeal(t *testing.T) {
	const v4 = discoveryv1.AddressTypeIPv4
	tests := []struct {
		name          string
		before, after *discoveryv1.EndpointSlice
		want          bool
	}{
		{"one more is ready", endpointSlice("a", v4, 2, 0, "http"), endpointSlice("a", v4, 3, 0, "http"), false},
		{"one less is", endpointSlice("a", v4, 2, 0, "http"), endpointSlice("a", v4, 1, 1, "http"), false},
		{"none is any more", endpointSlice("a", v4, 2, 0, "http"), endpointSlice("a", v4, 0, 2, "http"), true},
		{"one is again", endpointSlice("a", v4, 0, 2, "http"), endpointSlice("a", v4, 1, 1, "http"), true},
		{"a port is missing", endpointSlice("a", v4, 2, 0, "http", "metrics"), endpointSlice("a", v4, 2, 0, "http"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var n network
			n.see(tt.before, 0)
			if got := n.see(tt.after, time.Second); got != tt.want {
				t.Errorf("judged again: %v, want %v", got, tt.want)
			}
		})
	}
}

func TestLevelThatLastsIsTheUsualOne(t *testing.T) {
	const v4 = discoveryv1.AddressTypeIPv4
	type step struct {
		after          time.Duration
		ready, unready int
	}
	tests := []struct {
		name  string
		steps []step
		want  detect.Level
	}{
		{"nothing has changed yet", []step{{0, 4, 0}}, detect.Level{}},
		{"it lasted long enough", []step{{0, 4, 0}, {5 * time.Minute, 1, 3}}, detect.Level{Ready: 4, Total: 4}},
		{"it did not", []step{{0, 4, 0}, {299 * time.Second, 1, 3}}, detect.Level{}},
		{"on the way down", []step{{0, 4, 0}, {time.Hour, 3, 1}, {time.Hour + time.Second, 1, 3}}, detect.Level{Ready: 4, Total: 4}},
		{"being degraded for long is not usual", []step{{0, 4, 0}, {time.Hour, 1, 3}, {9 * time.Hour, 0, 4}}, detect.Level{Ready: 4, Total: 4}},
		{"being down for long is not either", []step{{0, 4, 0}, {time.Hour, 0, 4}, {9 * time.Hour, 1, 3}}, detect.Level{Ready: 4, Total: 4}},
		{"being scaled is", []step{{0, 4, 0}, {time.Hour, 2, 0}, {2 * time.Hour, 1, 1}}, detect.Level{Ready: 2, Total: 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var n network
			for _, s := range tt.steps {
				n.see(endpointSlice("a", v4, s.ready, s.unready, "http"), s.after)
			}
			if got := n.of(web).Former; got != tt.want {
				t.Errorf("usual level %v, want %v", got, tt.want)
			}
		})
	}

	var restarted network
	restarted.see(endpointSlice("a", v4, 1, 3, "http"), 0)
	restarted.assume(web)
	if !restarted.of(web).Degraded() {
		t.Error("a service that was degraded before a restart is not any more")
	}
	restarted.see(endpointSlice("a", v4, 1, 4, "http"), time.Hour)
	if !restarted.of(web).Degraded() {
		t.Error("a service that was degraded before a restart is taken for usual because it lasts")
	}
}

func TestServiceThatStartsFromNothingIsKnownToDoSo(t *testing.T) {
	const v4 = discoveryv1.AddressTypeIPv4
	var n network
	n.see(endpointSlice("a", v4, 0, 3), 0)
	if got := n.of(web).Began; !got.IsZero() {
		t.Errorf("pods that we did not see start began at %s", got)
	}
	n.see(endpointSlice("a", v4, 0, 0), time.Minute)
	n.see(endpointSlice("a", v4, 0, 1), 2*time.Minute)
	n.see(endpointSlice("a", v4, 0, 3), 3*time.Minute)
	if got, want := n.of(web).Began, start.Add(2*time.Minute); !got.Equal(want) {
		t.Errorf("began at %s, want %s", got, want)
	}
}

func TestServiceIsForgottenWithItsLastSlice(t *testing.T) {
	const v4 = discoveryv1.AddressTypeIPv4
	var n network
	n.see(endpointSlice("a", v4, 1, 0, "http"), 0)
	n.see(endpointSlice("b", v4, 1, 0, "http"), 0)
	moved := endpointSlice("b", v4, 1, 0, "http")
	moved.Labels[discoveryv1.LabelServiceName] = "other"
	n.see(moved, time.Second)
	if got := n.of(web).Ready; got != 1 {
		t.Errorf("%d ready after a slice went to another service, want 1", got)
	}
	for _, id := range []string{"a", "b", "b", "unknown"} {
		n.drop(makeUID([]byte(id)), start)
	}
	if len(n.services) != 0 || len(n.owners) != 0 {
		t.Errorf("%d services and %d slices are remembered, want none", len(n.services), len(n.owners))
	}
}

func TestServiceRestsWhenAWorkloadThatItSelectsIsScaledToZero(t *testing.T) {
	var n network
	n.rest("uid-a", "shop", true, map[string]string{"app": "web", "version": "2"}, noon)
	tests := []struct {
		name, namespace string
		selector        map[string]string
		want            bool
	}{
		{"its own", "shop", map[string]string{"app": "web"}, true},
		{"another one's", "shop", map[string]string{"app": "cart"}, false},
		{"more than the pods have", "shop", map[string]string{"app": "web", "tier": "front"}, false},
		{"elsewhere", "bank", map[string]string{"app": "web"}, false},
		{"no selector selects nothing", "shop", nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, woke := n.rests(tt.namespace, tt.selector); got != tt.want || !woke.IsZero() {
				t.Errorf("rests: %v, until %s; want %v", got, woke, tt.want)
			}
		})
	}
	web := map[string]string{"app": "web"}
	n.rest("uid-b", "shop", true, web, noon)
	n.rest("uid-c", "shop", false, web, noon) // which never rested
	for i := range 2 {                        // a further change is no further waking
		n.rest("uid-a", "shop", false, web, noon.Add(time.Duration(1+i)*time.Minute))
	}
	n.restGone("uid-b")
	if resting, woke := n.rests("shop", web); resting || !woke.Equal(noon.Add(time.Minute)) {
		t.Errorf("rests: %v, until %s; want it to have woken up after a minute", resting, woke)
	}
	n.restGone("uid-a")
	if len(n.resting) != 0 {
		t.Errorf("still resting: %v", n.resting)
	}
}

func TestServiceIsKeptWithoutWhatNobodyReads(t *testing.T) {
	got := slimService(&corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"k8s-app": "kube-dns", "note": "canary"}, Annotations: map[string]string{"note": "canary"}},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.9", ExternalName: "canary", Type: corev1.ServiceTypeLoadBalancer},
		Status:     corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{Hostname: "canary"}, {Hostname: "canary"}}}},
	})
	want := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Labels: map[string]string{"k8s-app": "kube-dns"}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
		Status:     corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: make([]corev1.LoadBalancerIngress, 1)}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
}
