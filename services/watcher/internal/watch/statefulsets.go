package watch

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

var statefulSets = kind{
	Version:    "apps/v1",
	Kind:       "StatefulSet",
	Group:      "apps",
	Resource:   "statefulsets",
	Namespaced: true,
	New:        func() object { return new(appsv1.StatefulSet) },
	Slim:       slimStatefulSet,
	Open:       openStatefulSets,
}

func openStatefulSets(w *Watcher, k kind) view {
	d := detectors[*appsv1.StatefulSet]{
		kind: k,
		list: detect.StatefulSets,
		node: func(*appsv1.StatefulSet) string { return "" },
	}
	history := newCourses(time.Now())
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			facts := detect.Facts{Now: now, Thresholds: w.cfg.Thresholds}
			history.tell(string(obj.GetUID()), &facts)
			facts.NodesAway, facts.Draining = w.absences.count(now)
			return d.judge(obj.(*appsv1.StatefulSet), facts, tracked)
		},
		change: func(obj metav1.Object, _ bool, now time.Time) {
			s := obj.(*appsv1.StatefulSet)
			history.note(string(s.UID), s.Status.UpdateRevision, replicas(s.Spec.Replicas), s.Status.UpdatedReplicas, now)
			w.barren.note(k, s, replicas(s.Spec.Replicas), s.Status.ReadyReplicas)
			w.network.rest(string(s.UID), s.Namespace, replicas(s.Spec.Replicas) == 0, s.Spec.Template.Labels)
		},
		forget: func(uid string) {
			history.forget(uid)
			w.barren.forget(uid)
			w.network.restGone(uid)
		},
	}
}

// slimStatefulSet keeps of a stateful set what detectors read; above all no
// templates, but for the labels of one that rests. Add to it what a new one needs.
func slimStatefulSet(obj any) any {
	s, ok := obj.(*appsv1.StatefulSet)
	if !ok {
		return obj
	}
	slim := &appsv1.StatefulSet{
		ObjectMeta: slimMeta(s.ObjectMeta),
		Spec: appsv1.StatefulSetSpec{
			Replicas:       s.Spec.Replicas,
			UpdateStrategy: appsv1.StatefulSetUpdateStrategy{Type: s.Spec.UpdateStrategy.Type},
		},
		Status: appsv1.StatefulSetStatus{
			ObservedGeneration: s.Status.ObservedGeneration,
			Replicas:           s.Status.Replicas,
			ReadyReplicas:      s.Status.ReadyReplicas,
			AvailableReplicas:  s.Status.AvailableReplicas,
			UpdatedReplicas:    s.Status.UpdatedReplicas,
			CurrentRevision:    clip(s.Status.CurrentRevision),
			UpdateRevision:     clip(s.Status.UpdateRevision),
		},
	}
	if u := s.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil {
		slim.Spec.UpdateStrategy.RollingUpdate = &appsv1.RollingUpdateStatefulSetStrategy{Partition: u.Partition}
	}
	if replicas(s.Spec.Replicas) == 0 { // which services rest with it
		slim.Spec.Template.Labels = s.Spec.Template.Labels
	}
	return slim
}
