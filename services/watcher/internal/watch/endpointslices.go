package watch

import (
	"slices"
	"strings"
	"time"
	"unique"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// No slice fails by itself: they say how the services are.
var endpointSlices = kind{
	Version:    "discovery.k8s.io/v1",
	Kind:       "EndpointSlice",
	Group:      "discovery.k8s.io",
	Resource:   "endpointslices",
	Namespaced: true,
	New:        func() object { return new(discoveryv1.EndpointSlice) },
	Slim:       slimEndpointSlice,
	Open:       openEndpointSlices,
}

func openEndpointSlices(w *Watcher, _ kind) view {
	return view{
		judge: func(metav1.Object, time.Time, []episode.Key) []episode.Sighting { return nil },
		change: func(obj metav1.Object, _ bool, now time.Time) {
			s := obj.(*discoveryv1.EndpointSlice)
			of, counted, had := countSlice(s)
			if of.Name != "" && w.network.put(of, counted, had, now) {
				w.serviceAgain(of)
			}
		},
		forget: func(uid string) {
			if of, news := w.network.drop(makeUID([]byte(uid)), time.Now()); news {
				w.serviceAgain(of)
			}
		},
	}
}

// countSlice is what counts of a slice, and which service it is of, if any. An
// empty slice that was changed since it was made has had endpoints: Kubernetes
// makes it new for a service without any.
func countSlice(s *discoveryv1.EndpointSlice) (of detect.Backend, c slice, had bool) {
	c = slice{uid: makeUID([]byte(s.UID)), family: shared(s.AddressType)}
	for i := range s.Endpoints {
		e := &s.Endpoints[i].Conditions
		leaving := e.Terminating != nil && *e.Terminating
		ready := !leaving && (e.Ready == nil || *e.Ready) // the API's default
		switch {
		case ready:
			c.ready++
			c.serving++
		case e.Serving != nil && *e.Serving:
			c.serving++
		}
		if !leaving {
			c.total++
		}
	}
	var ports []string
	for _, p := range s.Ports {
		if p.Name != nil {
			ports = append(ports, *p.Name)
		}
	}
	if len(ports) > 0 {
		slices.Sort(ports)
		c.ports = unique.Make(strings.Join(ports, portSeparator))
	}
	of = detect.Backend{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
	return of, c, len(s.Endpoints) > 0 || s.Generation > 1
}

// slimEndpointSlice keeps of a slice what is counted; above all no addresses.
func slimEndpointSlice(obj any) any {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return obj
	}
	slim := &discoveryv1.EndpointSlice{ObjectMeta: slimMeta(s.ObjectMeta), AddressType: s.AddressType}
	slim.Labels = map[string]string{discoveryv1.LabelServiceName: s.Labels[discoveryv1.LabelServiceName]}
	for i := range s.Endpoints {
		slim.Endpoints = append(slim.Endpoints, discoveryv1.Endpoint{Conditions: s.Endpoints[i].Conditions})
	}
	for _, p := range s.Ports {
		slim.Ports = append(slim.Ports, discoveryv1.EndpointPort{Name: p.Name})
	}
	return slim
}
