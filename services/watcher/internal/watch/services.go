package watch

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// Services are kept: they change when their slices do, not they themselves.
var services = kind{
	Version:    "v1",
	Kind:       "Service",
	Resource:   "services",
	Namespaced: true,
	Keep:       true,
	Packed:     true,
	New:        func() object { return new(corev1.Service) },
	Slim:       slimService,
	Open:       openServices,
}

func openServices(w *Watcher, k kind) view {
	d := detectors[*corev1.Service]{
		kind: k,
		list: detect.Services,
		node: func(*corev1.Service) string { return "" },
	}
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			s := obj.(*corev1.Service)
			of := detect.Backend{Namespace: s.Namespace, Name: s.Name}
			if following(tracked, "service_degraded") { // also one from before a restart
				w.network.assume(of)
			}
			idle, woke := w.network.rests(s.Namespace, s.Spec.Selector)
			return d.judge(s, detect.Facts{
				Now:           now,
				Thresholds:    w.cfg.Thresholds,
				EndpointsRead: w.read(endpointSlices.Version, endpointSlices.Kind),
				Endpoints:     w.network.of(of),
				Events:        w.notes.of(string(s.UID), now),
				Idle:          idle,
				Woke:          woke,
			}, tracked)
		},
		change: func(_ metav1.Object, _ bool, _ time.Time) {},
		forget: func(uid string) { w.notes.forget(uid) },
	}
}

// slimService keeps of a service what detectors read, and of its load balancer
// only whether there is one. Add to it what a new one needs.
func slimService(obj any) any {
	s, ok := obj.(*corev1.Service)
	if !ok {
		return obj
	}
	slim := &corev1.Service{
		ObjectMeta: slimMeta(s.ObjectMeta),
		Spec: corev1.ServiceSpec{
			Type:                     s.Spec.Type,
			Selector:                 s.Spec.Selector,
			PublishNotReadyAddresses: s.Spec.PublishNotReadyAddresses,
			LoadBalancerClass:        s.Spec.LoadBalancerClass,
		},
	}
	slim.Annotations = keep(slim.Annotations, s.Annotations, true, heal.AnnotationStandby)
	if s.Spec.ClusterIP == corev1.ClusterIPNone {
		slim.Spec.ClusterIP = s.Spec.ClusterIP
	}
	if s.Labels[detect.DNSLabelKey] == detect.DNSLabel {
		slim.Labels = map[string]string{detect.DNSLabelKey: detect.DNSLabel}
	}
	for _, p := range s.Spec.Ports {
		slim.Spec.Ports = append(slim.Spec.Ports, corev1.ServicePort{Name: p.Name, Port: p.Port, TargetPort: p.TargetPort})
	}
	if len(s.Status.LoadBalancer.Ingress) > 0 {
		slim.Status.LoadBalancer.Ingress = make([]corev1.LoadBalancerIngress, 1)
	}
	return slim
}
