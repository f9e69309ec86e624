package watch

import (
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

var daemonSets = kind{
	Version:    "apps/v1",
	Kind:       "DaemonSet",
	Group:      "apps",
	Resource:   "daemonsets",
	Namespaced: true,
	New:        func() object { return new(appsv1.DaemonSet) },
	Slim:       slimDaemonSet,
	Open:       openDaemonSets,
}

func openDaemonSets(w *Watcher, k kind) view {
	d := detectors[*appsv1.DaemonSet]{
		kind: k,
		list: detect.DaemonSets,
		node: func(*appsv1.DaemonSet) string { return "" },
	}
	history := newCourses(time.Now())
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			facts := detect.Facts{Now: now, Thresholds: w.cfg.Thresholds}
			history.tell(string(obj.GetUID()), &facts)
			facts.NodesAway, facts.Draining = w.absences.count(now)
			return d.judge(obj.(*appsv1.DaemonSet), facts, tracked)
		},
		change: func(obj metav1.Object, _ bool, now time.Time) {
			d := obj.(*appsv1.DaemonSet)
			// Its status names no revision; its generation changes with each. How many
			// nodes there are is not asked for: they come and go all the time.
			w.barren.note(k, d, d.Status.DesiredNumberScheduled, d.Status.NumberAvailable)
			history.note(string(d.UID), strconv.FormatInt(d.Generation, 10), 1, d.Status.UpdatedNumberScheduled, now)
		},
		forget: func(uid string) {
			history.forget(uid)
			w.barren.forget(uid)
		},
	}
}

// slimDaemonSet keeps of a daemon set what detectors read; above all no pod
// template. Add to it what a new one needs.
func slimDaemonSet(obj any) any {
	d, ok := obj.(*appsv1.DaemonSet)
	if !ok {
		return obj
	}
	return &appsv1.DaemonSet{
		ObjectMeta: slimMeta(d.ObjectMeta),
		Spec:       appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: d.Spec.UpdateStrategy.Type}},
		Status: appsv1.DaemonSetStatus{
			ObservedGeneration:     d.Status.ObservedGeneration,
			DesiredNumberScheduled: d.Status.DesiredNumberScheduled,
			UpdatedNumberScheduled: d.Status.UpdatedNumberScheduled,
			NumberAvailable:        d.Status.NumberAvailable,
			NumberUnavailable:      d.Status.NumberUnavailable,
			NumberMisscheduled:     d.Status.NumberMisscheduled,
		},
	}
}
