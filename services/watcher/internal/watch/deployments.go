package watch

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
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
	d := detectors[*appsv1.Deployment]{
		kind: k,
		list: detect.Deployments,
		node: func(*appsv1.Deployment) string { return "" },
	}
	history := newCourses(time.Now())
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			facts := detect.Facts{Now: now, Thresholds: w.cfg.Thresholds}
			history.tell(string(obj.GetUID()), &facts)
			facts.NodesAway, facts.Draining = w.absences.count(now)
			return d.judge(obj.(*appsv1.Deployment), facts, tracked)
		},
		change: func(obj metav1.Object, _ bool, now time.Time) {
			d := obj.(*appsv1.Deployment)
			history.note(string(d.UID), d.Annotations[detect.RevisionAnnotation], replicas(d.Spec.Replicas), d.Status.UpdatedReplicas, now)
			w.barren.note(k, d, replicas(d.Spec.Replicas), d.Status.AvailableReplicas)
			w.network.rest(string(d.UID), d.Namespace, replicas(d.Spec.Replicas) == 0, d.Spec.Template.Labels)
		},
		forget: func(uid string) {
			history.forget(uid)
			w.barren.forget(uid)
			w.network.restGone(uid)
		},
	}
}

// replicas is how many are asked for. (The API's default is one.)
func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
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
