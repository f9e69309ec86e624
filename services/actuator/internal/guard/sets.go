package guard

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// A Templated is a controller that makes pods from a template.
type Templated struct {
	Object
	Template corev1.PodTemplateSpec
	Observed int64 // the generation that its status is about
}

// Templated is the target, if it makes pods from a template.
func (f Facts) Templated() (Templated, bool) {
	switch {
	case f.Deployment != nil:
		return TemplatedOf(f.Deployment), true
	case f.StatefulSet != nil:
		return TemplatedOf(f.StatefulSet), true
	case f.DaemonSet != nil:
		return TemplatedOf(f.DaemonSet), true
	}
	return Templated{}, false
}

// TemplatedOf is what the three kinds have in common.
func TemplatedOf[W *appsv1.Deployment | *appsv1.StatefulSet | *appsv1.DaemonSet](w W) Templated {
	switch w := any(w).(type) {
	case *appsv1.Deployment:
		return Templated{Object{"Deployment", w.ObjectMeta}, w.Spec.Template, w.Status.ObservedGeneration}
	case *appsv1.StatefulSet:
		return Templated{Object{"StatefulSet", w.ObjectMeta}, w.Spec.Template, w.Status.ObservedGeneration}
	case *appsv1.DaemonSet:
		return Templated{Object{"DaemonSet", w.ObjectMeta}, w.Spec.Template, w.Status.ObservedGeneration}
	}
	return Templated{}
}

// WantedOf is spec.replicas of a StatefulSet, which defaults to 1.
func WantedOf(s *appsv1.StatefulSet) int32 {
	if s.Spec.Replicas == nil {
		return 1
	}
	return *s.Spec.Replicas
}

// SickStatefulSet reports whether pods of the StatefulSet are missing, and what
// shows it.
func SickStatefulSet(s *appsv1.StatefulSet) (bool, string) {
	wanted := WantedOf(s)
	if wanted == 0 {
		return false, "it is scaled to zero"
	}
	return s.Status.ReadyReplicas < wanted, fmt.Sprintf("%d of %d replicas are Ready, %d updated", s.Status.ReadyReplicas, wanted, s.Status.UpdatedReplicas)
}

// SickDaemonSet reports whether pods of the DaemonSet are missing, and what
// shows it.
func SickDaemonSet(d *appsv1.DaemonSet) (bool, string) {
	s := d.Status
	if s.DesiredNumberScheduled == 0 {
		return false, "no node is meant to run it"
	}
	return s.NumberReady < s.DesiredNumberScheduled, fmt.Sprintf("%d of %d pods are Ready, %d updated", s.NumberReady, s.DesiredNumberScheduled, s.UpdatedNumberScheduled)
}
