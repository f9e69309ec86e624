package watch

import (
	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

var deployments = kind{
	Version:    "apps/v1",
	Kind:       "Deployment",
	Group:      "apps",
	Resource:   "deployments",
	Namespaced: true,
	New:        func() object { return new(appsv1.Deployment) },
	Slim:       slimDeployment,
	Open:       openDeployments,
}

func openDeployments(w *Watcher, k kind) view {
	return openWorkloads(w, k, detect.Deployments, func(d *appsv1.Deployment) workload {
		asked := replicas(d.Spec.Replicas)
		return workload{
			revision: d.Annotations[detect.RevisionAnnotation], asked: asked, updated: d.Status.UpdatedReplicas,
			pods: asked, serving: d.Status.AvailableReplicas, labels: d.Spec.Template.Labels,
			available: d.Status.AvailableReplicas, still: d.Spec.Paused,
		}
	})
}

// slimDeployment keeps of a deployment what detectors read; above all no pod
// template, but for the labels of one that rests. Add to it what a new one needs.
func slimDeployment(obj any) any {
	d, ok := obj.(*appsv1.Deployment)
	if !ok {
		return obj
	}
	slim := &appsv1.Deployment{
		ObjectMeta: slimMeta(d.ObjectMeta),
		Spec: appsv1.DeploymentSpec{
			Replicas: d.Spec.Replicas, Paused: d.Spec.Paused,
			Strategy: appsv1.DeploymentStrategy{Type: d.Spec.Strategy.Type},
		},
		Status: appsv1.DeploymentStatus{
			ObservedGeneration: d.Status.ObservedGeneration,
			Replicas:           d.Status.Replicas,
			UpdatedReplicas:    d.Status.UpdatedReplicas,
			AvailableReplicas:  d.Status.AvailableReplicas,
		},
	}
	if replicas(d.Spec.Replicas) == 0 { // which services rest with it
		slim.Spec.Template.Labels = d.Spec.Template.Labels
	}
	for _, c := range d.Status.Conditions {
		slim.Status.Conditions = append(slim.Status.Conditions, appsv1.DeploymentCondition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, Message: clip(c.Message),
		})
	}
	return slim
}
