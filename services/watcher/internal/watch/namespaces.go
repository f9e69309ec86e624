package watch

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// Namespaces are kept: nothing fails in one that is being deleted.
var namespaces = kind{
	Version:  "v1",
	Kind:     "Namespace",
	Resource: "namespaces",
	Keep:     true,
	First:    true,
	New:      func() object { return new(corev1.Namespace) },
	Slim:     slimNamespace,
	Open:     openNamespaces,
}

func openNamespaces(w *Watcher, k kind) view {
	d := detectors[*corev1.Namespace]{
		kind: k,
		list: detect.Namespaces,
		node: func(*corev1.Namespace) string { return "" },
	}
	v := plain(w, d)
	v.judge = func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
		facts := detect.Facts{Now: now, Thresholds: w.cfg.Thresholds}
		if obj.GetName() == detect.ClusterNamespace {
			facts.Capacity = w.capacity(now)
		}
		return d.judge(obj.(*corev1.Namespace), facts, tracked)
	}
	return v
}

// open is the view of the kind in which nobody fails whose namespace is being
// deleted: then everything goes, in any order, and nothing comes any more.
func (k kind) open(w *Watcher) view {
	v := k.Open(w, k)
	if !k.Namespaced {
		return v
	}
	judge := v.judge
	v.judge = func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
		sightings := judge(obj, now, tracked)
		if len(sightings) > 0 && w.ending(obj.GetNamespace()) {
			return allWell(sightings)
		}
		return sightings
	}
	return v
}

// allWell lets nothing begin, and ends what began.
func allWell(sightings []episode.Sighting) []episode.Sighting {
	well := make([]episode.Sighting, len(sightings))
	for i := range sightings {
		well[i] = episode.Sighting{Key: sightings[i].Key, State: episode.Well}
	}
	return well
}

// ending reports whether a namespace is being deleted, as far as we see.
func (w *Watcher) ending(namespace string) bool {
	if namespace == "" {
		return false
	}
	n, ok := w.find(namespaces.Version, namespaces.Kind, "", namespace).(*corev1.Namespace)
	return ok && n.DeletionTimestamp != nil
}

// slimNamespace keeps of a namespace its name, whether it is to go, and what it
// says of whom to tell about failures in it, and of leaving it alone.
func slimNamespace(obj any) any {
	n, ok := obj.(*corev1.Namespace)
	if !ok {
		return obj
	}
	slim := &corev1.Namespace{ObjectMeta: slimMeta(n.ObjectMeta)}
	if told := onNamespace(n); len(told) > 0 {
		slim.Annotations = map[string]string{}
		tell(slim.Annotations, heal.AnnotationTeam, told[heal.MetadataTeam])
		tell(slim.Annotations, heal.AnnotationRunbook, told[heal.MetadataRunbook])
		tell(slim.Annotations, heal.AnnotationMode, told[heal.MetadataMode])
		tell(slim.Annotations, heal.AnnotationHoldUntil, told[heal.MetadataHoldUntil])
	}
	return slim
}
