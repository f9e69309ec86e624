package watch

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
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
	return openWorkloads(w, k, detect.DaemonSets, func(d *appsv1.DaemonSet) workload {
		return workload{
			// Its status names no revision; its generation changes with each. How many
			// nodes there are is not asked for: they come and go all the time.
			revision: strconv.FormatInt(d.Generation, 10), asked: 1, updated: d.Status.UpdatedNumberScheduled,
			pods: d.Status.DesiredNumberScheduled, serving: d.Status.NumberAvailable,
		}
	})
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
