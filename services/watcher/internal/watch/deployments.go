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
	rollouts := map[string]time.Time{} // by UID: when its present revision was first seen
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			return d.judge(obj.(*appsv1.Deployment), detect.Facts{
				Now:          now,
				Thresholds:   w.cfg.Thresholds,
				RolloutSince: rollouts[string(obj.GetUID())],
			}, tracked)
		},
		change: func(old, obj metav1.Object, now time.Time) {
			if old == nil || old.GetAnnotations()[detect.RevisionAnnotation] != obj.GetAnnotations()[detect.RevisionAnnotation] {
				rollouts[string(obj.GetUID())] = now
			}
		},
		forget: func(uid string) { delete(rollouts, uid) },
	}
}

// slimDeployment keeps of a deployment what detectors read; above all no pod
// template. Add to it what a new one needs.
func slimDeployment(obj any) any {
	d, ok := obj.(*appsv1.Deployment)
	if !ok {
		return obj
	}
	slim := &appsv1.Deployment{
		ObjectMeta: slimMeta(d.ObjectMeta),
		Spec:       appsv1.DeploymentSpec{Replicas: d.Spec.Replicas, Paused: d.Spec.Paused},
		Status: appsv1.DeploymentStatus{
			ObservedGeneration: d.Status.ObservedGeneration,
			UpdatedReplicas:    d.Status.UpdatedReplicas,
			AvailableReplicas:  d.Status.AvailableReplicas,
		},
	}
	for _, c := range d.Status.Conditions {
		slim.Status.Conditions = append(slim.Status.Conditions, appsv1.DeploymentCondition{
			Type: c.Type, Status: c.Status, Reason: c.Reason, Message: clip(c.Message),
		})
	}
	return slim
}
