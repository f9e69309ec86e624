package detect

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// leftoverTold is how long a pod that has failed for good, and that somebody
// makes anew, is spoken of: it is a record of what was, not a failure that
// lasts, and a cluster may hold thousands of them.
const leftoverTold = time.Hour

// endedAt is when a pod that is over ended, as well as it shows.
func endedAt(pod *corev1.Pod) time.Time {
	at := pod.CreationTimestamp.Time
	later := func(t time.Time) {
		if t.After(at) {
			at = t
		}
	}
	for i := range pod.Status.Conditions {
		later(pod.Status.Conditions[i].LastTransitionTime.Time)
	}
	for _, c := range containers(pod) {
		if c.State.Terminated != nil {
			later(c.State.Terminated.FinishedAt.Time)
		}
	}
	return at
}

// controlled reports whether somebody makes the pod anew when it is gone.
func controlled(pod *corev1.Pod) bool {
	for i := range pod.OwnerReferences {
		if c := pod.OwnerReferences[i].Controller; c != nil && *c {
			return true
		}
	}
	return false
}

// mirror reports whether a pod is the API's picture of a static pod.
func mirror(pod *corev1.Pod) bool { return pod.Annotations[corev1.MirrorPodAnnotationKey] != "" }
