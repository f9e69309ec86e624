package watch

import (
	"cmp"
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
			// How many nodes there are is not asked for: they come and go all the time.
			revision: templateGeneration(d), asked: 1, updated: d.Status.UpdatedNumberScheduled,
			pods: d.Status.DesiredNumberScheduled, serving: d.Status.NumberAvailable,
			available: d.Status.NumberAvailable, still: d.Spec.UpdateStrategy.Type == appsv1.OnDeleteDaemonSetStrategyType,
		}
	})
}

// templateGeneration is what a daemon set calls its revision, and its pods
// call it in a label. Its generation changes with each, too.
func templateGeneration(d *appsv1.DaemonSet) string {
	return cmp.Or(d.Annotations[appsv1.DeprecatedTemplateGeneration], strconv.FormatInt(d.Generation, 10))
}

// slimDaemonSet keeps of a daemon set what detectors read; above all no pod
// template. Add to it what a new one needs.
func slimDaemonSet(obj any) any {
	d, ok := obj.(*appsv1.DaemonSet)
	if !ok {
		return obj
	}
	slim := &appsv1.DaemonSet{
		ObjectMeta: slimMeta(d.ObjectMeta),
		Spec:       appsv1.DaemonSetSpec{UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: d.Spec.UpdateStrategy.Type}},
		Status: appsv1.DaemonSetStatus{
			ObservedGeneration:     d.Status.ObservedGeneration,
			DesiredNumberScheduled: d.Status.DesiredNumberScheduled,
			CurrentNumberScheduled: d.Status.CurrentNumberScheduled,
			UpdatedNumberScheduled: d.Status.UpdatedNumberScheduled,
			NumberAvailable:        d.Status.NumberAvailable,
			NumberUnavailable:      d.Status.NumberUnavailable,
			NumberMisscheduled:     d.Status.NumberMisscheduled,
		},
	}
	slim.Annotations = keep(slim.Annotations, d.Annotations, true, appsv1.DeprecatedTemplateGeneration)
	return slim
}
