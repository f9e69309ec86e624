package watch

import (
	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
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
	return openWorkloads(w, k, detect.StatefulSets, func(s *appsv1.StatefulSet) workload {
		asked := replicas(s.Spec.Replicas)
		return workload{
			revision: s.Status.UpdateRevision, asked: asked, updated: s.Status.UpdatedReplicas,
			pods: asked, serving: s.Status.ReadyReplicas, labels: s.Spec.Template.Labels,
			available: s.Status.AvailableReplicas, still: keepsOld(s),
		}
	})
}

// keepsOld reports whether a stateful set leaves pods of an older revision as
// they are, all or some.
func keepsOld(s *appsv1.StatefulSet) bool {
	u := s.Spec.UpdateStrategy
	return u.Type == appsv1.OnDeleteStatefulSetStrategyType ||
		u.RollingUpdate != nil && u.RollingUpdate.Partition != nil && *u.RollingUpdate.Partition > 0
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
