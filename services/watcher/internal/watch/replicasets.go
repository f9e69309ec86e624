package watch

import (
	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// replicaSets are those that no Deployment has made, which are few: those of
// Deployments are many, bear their mark, and are spoken for.
var replicaSets = kind{
	Version:    "apps/v1",
	Kind:       "ReplicaSet",
	Group:      "apps",
	Resource:   "replicasets",
	Namespaced: true,
	Optional:   true,
	Labels:     "!" + templateHash,
	New:        func() object { return new(appsv1.ReplicaSet) },
	Slim:       slimReplicaSet,
	Open:       openReplicaSets,
}

func openReplicaSets(w *Watcher, k kind) view {
	return openWorkloads(w, k, detect.ReplicaSets, func(r *appsv1.ReplicaSet) workload {
		asked := replicas(r.Spec.Replicas)
		return workload{
			asked: asked, updated: r.Status.ReadyReplicas, pods: asked, serving: r.Status.AvailableReplicas,
			labels: r.Spec.Template.Labels, available: r.Status.AvailableReplicas, still: true,
		}
	})
}

// slimReplicaSet keeps of a replica set what detectors read; above all no
// template, but for the labels of one that rests.
func slimReplicaSet(obj any) any {
	r, ok := obj.(*appsv1.ReplicaSet)
	if !ok {
		return obj
	}
	slim := &appsv1.ReplicaSet{
		ObjectMeta: slimMeta(r.ObjectMeta),
		Spec:       appsv1.ReplicaSetSpec{Replicas: r.Spec.Replicas},
		Status: appsv1.ReplicaSetStatus{
			ObservedGeneration: r.Status.ObservedGeneration,
			Replicas:           r.Status.Replicas,
			ReadyReplicas:      r.Status.ReadyReplicas,
			AvailableReplicas:  r.Status.AvailableReplicas,
		},
	}
	if replicas(r.Spec.Replicas) == 0 { // which services rest with it
		slim.Spec.Template.Labels = r.Spec.Template.Labels
	}
	for _, c := range r.Status.Conditions {
		slim.Status.Conditions = append(slim.Status.Conditions, appsv1.ReplicaSetCondition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, Message: clip(c.Message),
		})
	}
	return slim
}
