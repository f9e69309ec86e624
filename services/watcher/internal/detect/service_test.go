package detect

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/selfheal/selfheal/pkg/heal"
)

// shop is a service that has existed for an hour, changed by each of changes.
func shop(changes ...func(*corev1.Service)) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", CreationTimestamp: metav1.Time{Time: noon.Add(-time.Hour)}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.0.0.9",
			Selector: map[string]string{"tier": "front", "app": "web"},
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, TargetPort: intstr.FromString("http")},
				{Name: "metrics", Port: 9090, TargetPort: intstr.FromInt32(9090)},
			},
		},
	}
	for _, change := range changes {
		change(s)
	}
	return s
}

// behind is a service's endpoints, of which these are ready.
func behind(ready, total int) Endpoints {
	return Endpoints{
		Known: true, Ready: ready, Serving: ready, Total: total,
		Ports: []string{"http", "metrics"}, Had: true, Proven: true, Former: Level{Ready: 4, Total: 4},
	}
}

func facts(e Endpoints) Facts {
	return Facts{Now: noon, Thresholds: defaults, EndpointsRead: true, Endpoints: e}
}

func dns(s *corev1.Service) { s.Namespace, s.Name = "kube-system", "kube-dns" }

func TestServiceBehindWhichNothingIsReadyIsFoundWithWhatIsMissing(t *testing.T) {
	finding := func(reason, description, ready, total string, hold time.Duration) []Finding {
		return []Finding{{
			Reason: reason, Hold: hold, Description: description,
			Evidence: []heal.Evidence{
				{Path: "spec.selector", Value: "app=web,tier=front"},
				{Path: "endpointslices[*].endpoints[*].conditions.ready", Value: ready + " of " + total},
			},
			Metadata: map[string]string{"ready": ready, "total": total, "serving": ready},
		}}
	}
	none := behind(0, 0)
	never := none
	never.Had = false
	unseen := none
	unseen.Known = false
	tests := []struct {
		name      string
		service   *corev1.Service
		endpoints Endpoints
		want      []Finding
	}{
		{"its pods are not ready", shop(), behind(0, 3), finding("NoReadyEndpoints", "service web reaches nothing: none of its 3 endpoints is ready", "0", "3", time.Minute)},
		{"its pods are gone", shop(), none, finding("EndpointsLost", "service web reaches nothing: no pod with an address matches its selector app=web,tier=front any more", "0", "0", time.Minute)},
		{"there never were any", shop(), never, finding("SelectorMatchesNothing", "service web reaches nothing: no pod with an address ever matched its selector app=web,tier=front", "0", "0", 2*time.Minute)},
		{"one is ready", shop(), behind(1, 3), nil},
		{"nobody has looked for endpoints yet", shop(), unseen, nil},
		{"no selector", shop(func(s *corev1.Service) { s.Spec.Selector = nil }), none, nil},
		{"an ExternalName", shop(func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeExternalName }), none, nil},
		{"headless on purpose", shop(func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }), none, nil},
		{"publishes what is not ready", shop(func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }), none, nil},
		{"the cluster's DNS has a detector of its own", shop(dns), none, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, serviceUnavailable.Find(tt.service, facts(tt.endpoints))); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestServiceThatRestsOrStartsIsExcused(t *testing.T) {
	young := func(s *corev1.Service) { s.CreationTimestamp = metav1.Time{Time: noon.Add(-9 * time.Minute)} }
	tests := []struct {
		name    string
		service *corev1.Service
		facts   func(*Facts)
		want    Excuse
		dns     Excuse // if it were the cluster's DNS
	}{
		{name: "any other is not", service: shop(), facts: func(*Facts) {}, want: None, dns: None},
		{name: "deleted", service: shop(func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{Time: noon} }), facts: func(*Facts) {}, want: Leaving, dns: Leaving},
		{name: "its workload is scaled to zero", service: shop(), facts: func(f *Facts) { f.Idle, f.Endpoints = true, behind(0, 0) }, want: Leaving, dns: None},
		{name: "its workload was scaled up from zero, and no pod has an address yet", service: shop(), facts: func(f *Facts) { f.Woke, f.Endpoints = noon.Add(-4*time.Minute), behind(0, 0) }, want: Masked, dns: None},
		{name: "its workload was scaled up from zero long ago", service: shop(), facts: func(f *Facts) { f.Woke, f.Endpoints = noon.Add(-5*time.Minute), behind(0, 0) }, want: None, dns: None},
		{name: "one of its workloads is scaled to zero, another fails", service: shop(), facts: func(f *Facts) { f.Idle = true }, want: None, dns: None},
		{name: "young, and never had a ready endpoint", service: shop(young), facts: func(f *Facts) { f.Endpoints.Proven = false }, want: Masked, dns: Masked},
		{name: "young, and it worked already", service: shop(young), facts: func(*Facts) {}, want: None, dns: None},
		{name: "old, and never seen ready", service: shop(), facts: func(f *Facts) { f.Endpoints.Proven = false }, want: None, dns: None},
		{name: "its pods start from nothing", service: shop(), facts: func(f *Facts) { f.Endpoints.Began = noon.Add(-299 * time.Second) }, want: Masked, dns: None},
		{name: "its pods should have started by now", service: shop(), facts: func(f *Facts) { f.Endpoints.Began = noon.Add(-5 * time.Minute) }, want: None, dns: None},
		{name: "its pods are gone again", service: shop(), facts: func(f *Facts) { f.Endpoints = behind(0, 0); f.Endpoints.Began = noon }, want: None, dns: None},
		{name: "not all slices were read", service: shop(), facts: func(f *Facts) { f.EndpointsRead = false }, want: Masked, dns: Masked},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := facts(behind(0, 3))
			tt.facts(&f)
			for _, d := range []Detector[*corev1.Service]{serviceUnavailable, servicePort, serviceDegraded} {
				if got := d.Excuse(tt.service, f); got != tt.want {
					t.Errorf("excuse of %s = %v, want %v", d.Name, got, tt.want)
				}
			}
			if got := dnsUnavailable.Excuse(tt.service, f); got != tt.dns {
				t.Errorf("excuse of DNS = %v, want %v", got, tt.dns)
			}
		})
	}
}

func TestPortThatNoPodHasIsFound(t *testing.T) {
	without := func(e Endpoints, ports ...string) Endpoints {
		e.Ports = ports
		return e
	}
	unnamed := func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromString("web")}}
	}
	tests := []struct {
		name      string
		service   *corev1.Service
		endpoints Endpoints
		want      []string // parts
	}{
		{"all are there", shop(), behind(3, 3), nil},
		{"one is not", shop(), without(behind(3, 3), "metrics"), []string{"80"}},
		{"none is", shop(), without(behind(1, 3)), []string{"80", "9090"}},
		{"the only port has no name", shop(unnamed), without(behind(1, 1), ""), nil},
		{"the only port has no name, and is missing", shop(unnamed), without(behind(1, 1)), []string{"80"}},
		{"nothing is ready, which is told otherwise", shop(), without(behind(0, 3)), nil},
		{"headless", shop(func(s *corev1.Service) { s.Spec.ClusterIP = corev1.ClusterIPNone }), without(behind(3, 3)), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, f := range servicePort.Find(tt.service, facts(tt.endpoints)) {
				got = append(got, f.Part)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("ports (-want +got):\n%s", diff)
			}
		})
	}
	want := []Finding{{
		Part: "80", Reason: "PortMismatch", Hold: time.Minute,
		Description: "port 80 of service web leads nowhere: no pod behind it has a container port http",
		Evidence: []heal.Evidence{
			{Path: "spec.ports[0].port", Value: "80"},
			{Path: "spec.ports[0].targetPort", Value: "http"},
			{Path: "spec.selector", Value: "app=web,tier=front"},
			{Path: "endpointslices[*].endpoints[*].conditions.ready", Value: "3 of 3"},
		},
		Metadata: map[string]string{"port": "80", "target_port": "http"},
	}}
	if diff := cmp.Diff(want, servicePort.Find(shop(), facts(without(behind(3, 3), "metrics")))); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestServiceIsDegradedWhenLessThanHalfIsLeftOfWhatIsUsual(t *testing.T) {
	level := func(ready, total int, former Level) Endpoints {
		e := behind(ready, total)
		e.Former = former
		return e
	}
	tests := []struct {
		name      string
		endpoints Endpoints
		want      bool
	}{
		{"one of four is left", level(1, 4, Level{4, 4}), true},
		{"half of it is", level(2, 4, Level{4, 4}), false},
		{"nothing is, which is told otherwise", level(0, 4, Level{4, 4}), false},
		{"scaled down", level(1, 1, Level{4, 4}), false},
		{"being scaled down while others start", level(1, 2, Level{4, 4}), false},
		{"scaled up", level(4, 20, Level{4, 4}), false},
		{"a roll-out that surges", level(3, 5, Level{4, 4}), false},
		{"only its leader is ever ready", level(1, 3, Level{1, 3}), false},
		{"fewer than the usual share, as always", level(1, 4, Level{1, 4}), false},
		{"most were not ready before either, and now nearly none is", level(1, 10, Level{4, 10}), true},
		{"nothing is known of before", level(1, 4, Level{}), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := len(serviceDegraded.Find(shop(), facts(tt.endpoints))) > 0; got != tt.want {
				t.Errorf("degraded: %v, want %v", got, tt.want)
			}
		})
	}
	want := []Finding{{
		Reason: "EndpointsDegraded", Hold: 3 * time.Minute,
		Description: "service web is degraded: 1 of 4 endpoints ready, usually 4 of 4",
		Evidence: []heal.Evidence{
			{Path: "spec.selector", Value: "app=web,tier=front"},
			{Path: "endpointslices[*].endpoints[*].conditions.ready", Value: "1 of 4"},
		},
		Metadata: map[string]string{"ready": "1", "total": "4", "serving": "1", "usually_ready": "4", "usually_total": "4"},
	}}
	if diff := cmp.Diff(want, serviceDegraded.Find(shop(), facts(behind(1, 4)))); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
}

func TestServiceIsSpokenForByOneDetector(t *testing.T) {
	for ready := range 5 {
		for _, ports := range [][]string{nil, {"http"}, {"http", "metrics"}} {
			for _, s := range []*corev1.Service{shop(), shop(dns)} {
				e := behind(ready, 4)
				e.Ports = ports
				var names []string
				for _, d := range []Detector[*corev1.Service]{serviceUnavailable, servicePort, dnsUnavailable} {
					if len(d.Find(s, facts(e))) > 0 {
						names = append(names, d.Name)
					}
				}
				if len(names) > 1 {
					t.Errorf("%d of 4 ready, ports %v: %v speak for %s", ready, ports, names, s.Name)
				}
			}
		}
	}
}

func TestLoadBalancerThatNobodyProvidesIsFound(t *testing.T) {
	balanced := func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeLoadBalancer }
	class := "example.com/internal"
	classed := func(s *corev1.Service) { s.Spec.LoadBalancerClass = &class }
	tests := []struct {
		name    string
		service *corev1.Service
		want    []Finding
	}{
		{"pending", shop(balanced, classed), []Finding{{
			Reason: "LoadBalancerPending", Hold: 10 * time.Minute,
			Description: "service web has no load balancer of class example.com/internal: no quota",
			Evidence: []heal.Evidence{
				{Path: "spec.type", Value: "LoadBalancer"},
				{Path: "status.loadBalancer.ingress", Value: "[]"},
				{Path: "spec.loadBalancerClass", Value: class},
				{Path: `events[?(@.reason=="SyncLoadBalancerFailed")].message`, Value: "no quota"},
			},
		}}},
		{"provided", shop(balanced, func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}
		}), nil},
		{"not asked for", shop(), nil},
	}
	refused := facts(Endpoints{})
	refused.Events = []Event{{Reason: "SyncLoadBalancerFailed", Message: "no quota", At: noon}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, loadBalancerPending.Find(tt.service, refused)); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
	if got := loadBalancerPending.Excuse(shop(func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{Time: noon} }), Facts{}); got != Leaving {
		t.Errorf("excuse of a deleted one = %v, want %v", got, Leaving)
	}
	if got := loadBalancerPending.Excuse(shop(balanced), Facts{}); got != None {
		t.Errorf("excuse = %v, want %v", got, None)
	}
}

func TestDNSOfTheClusterIsFoundByItsNameOrItsLabel(t *testing.T) {
	labelled := func(s *corev1.Service) {
		s.Namespace, s.Name, s.Labels = "kube-system", "rke2-coredns", map[string]string{"k8s-app": "kube-dns"}
	}
	elsewhere := func(s *corev1.Service) { labelled(s); s.Namespace = "shop" }
	tests := []struct {
		name    string
		service *corev1.Service
		ready   int
		want    bool
	}{
		{"by its name", shop(dns), 0, true},
		{"by its label", shop(labelled), 0, true},
		{"one answers", shop(dns), 1, false},
		{"the label elsewhere is anybody's", shop(elsewhere), 0, false},
		{"its metrics", shop(func(s *corev1.Service) { s.Namespace = "kube-system" }), 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := len(dnsUnavailable.Find(tt.service, facts(behind(tt.ready, 2)))) > 0; got != tt.want {
				t.Errorf("found: %v, want %v", got, tt.want)
			}
		})
	}
	want := []Finding{{
		Reason: "ClusterDNSUnavailable", Hold: time.Minute,
		Description: "the cluster's DNS answers nobody: of service kube-dns 0 of 2 endpoints are ready",
		Evidence: []heal.Evidence{
			{Path: "spec.selector", Value: "app=web,tier=front"},
			{Path: "endpointslices[*].endpoints[*].conditions.ready", Value: "0 of 2"},
		},
		Metadata: map[string]string{"ready": "0", "total": "2", "serving": "0", "critical": "true"},
	}}
	if diff := cmp.Diff(want, dnsUnavailable.Find(shop(dns), facts(behind(0, 2)))); diff != "" {
		t.Errorf("findings (-want +got):\n%s", diff)
	}
	if !slices.Contains(dnsUnavailable.Reasons, want[0].Reason) {
		t.Errorf("reason %s is not listed", want[0].Reason)
	}
}

func TestServiceThatNothingIsReadyBehindTellsOfTheStandbyThatItDeclares(t *testing.T) {
	declared := shop(func(s *corev1.Service) {
		s.Annotations = map[string]string{heal.AnnotationStandby: "app=web,track=standby"}
	})
	for want, s := range map[string]*corev1.Service{"app=web,track=standby": declared, "": shop()} {
		found := serviceUnavailable.Find(s, facts(behind(0, 3)))
		if len(found) != 1 || found[0].Metadata["standby"] != want {
			t.Errorf("found %+v, want one with standby %q", found, want)
		}
	}
}
