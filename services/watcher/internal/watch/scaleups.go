package watch

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// scaleUps are the events by which cluster-autoscaler says that it brings a
// node for a pod. They are no warnings, so they are asked for by their reason,
// of the newer of the two APIs that serve the same events.
var scaleUps = kind{
	Version:    "events.k8s.io/v1",
	Kind:       "Event",
	Group:      "events.k8s.io",
	Resource:   "events",
	Namespaced: true,
	Optional:   true,
	Passing:    true,
	Fields:     "reason=" + detect.TriggeredScaleUp,
	New:        func() object { return new(eventsv1.Event) },
	Slim:       slimScaleUp,
	Open:       openScaleUps,
}

func openScaleUps(w *Watcher, _ kind) view {
	return view{
		judge: func(metav1.Object, time.Time, []episode.Key) []episode.Sighting { return nil },
		change: func(obj metav1.Object, _ bool, now time.Time) {
			e := obj.(*eventsv1.Event)
			note := detect.Event{Reason: e.Reason, At: detect.EventsTime(e)}
			if e.Reason != detect.TriggeredScaleUp || e.Regarding.Kind != "Pod" || !w.notes.add(string(e.Regarding.UID), note, now) {
				return
			}
			w.again("v1", e.Regarding.Kind, e.Regarding.Namespace, e.Regarding.Name)
		},
		forget: func(string) {},
	}
}

// slimScaleUp keeps of an event which pod it is about, and when.
func slimScaleUp(obj any) any {
	e, ok := obj.(*eventsv1.Event)
	if !ok {
		return obj
	}
	return &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{
			Name: e.Name, Namespace: e.Namespace, UID: e.UID, ResourceVersion: e.ResourceVersion, CreationTimestamp: e.CreationTimestamp,
		},
		Regarding: corev1.ObjectReference{
			Kind: e.Regarding.Kind, Namespace: e.Regarding.Namespace, Name: e.Regarding.Name, UID: e.Regarding.UID,
		},
		Reason:                  e.Reason,
		EventTime:               e.EventTime,
		DeprecatedLastTimestamp: e.DeprecatedLastTimestamp,
	}
}
