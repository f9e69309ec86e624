package watch

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

var apiServices = kind{
	Version:  "apiregistration.k8s.io/v1",
	Kind:     "APIService",
	Group:    "apiregistration.k8s.io",
	Resource: "apiservices",
	Optional: true,
	New:      func() object { return new(apiregistrationv1.APIService) },
	Slim:     slimAPIService,
	Open:     openAPIServices,
}

func openAPIServices(w *Watcher, k kind) view {
	d := detectors[*apiregistrationv1.APIService]{
		kind: k,
		list: detect.APIServices,
		node: func(*apiregistrationv1.APIService) string { return "" },
	}
	return plain(w, d)
}

// plain is the view of objects that say themselves all there is to know.
func plain[T metav1.Object](w *Watcher, d detectors[T]) view {
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			return d.judge(obj.(T), detect.Facts{Now: now, Thresholds: w.cfg.Thresholds}, tracked)
		},
		change: func(_ metav1.Object, _ bool, _ time.Time) {},
		forget: func(string) {},
	}
}

// slimAPIService keeps of a registration what detectors read; no certificates.
func slimAPIService(obj any) any {
	a, ok := obj.(*apiregistrationv1.APIService)
	if !ok {
		return obj
	}
	slim := &apiregistrationv1.APIService{
		ObjectMeta: slimMeta(a.ObjectMeta),
		Spec:       apiregistrationv1.APIServiceSpec{Group: a.Spec.Group, Version: a.Spec.Version},
	}
	if s := a.Spec.Service; s != nil {
		slim.Spec.Service = &apiregistrationv1.ServiceReference{Namespace: clip(s.Namespace), Name: clip(s.Name)}
	}
	for _, c := range a.Status.Conditions {
		slim.Status.Conditions = append(slim.Status.Conditions, apiregistrationv1.APIServiceCondition{
			Type: c.Type, Status: c.Status, Reason: clip(c.Reason), Message: clip(c.Message),
		})
	}
	return slim
}
