package detect

import (
	corev1 "k8s.io/api/core/v1"
)

// podExcused is podExcuse in words.
const podExcused = "the pod is deleted, done, disrupted on purpose or a mirror pod; its node is not ready"

// podExcuse is the event hygiene of pods: what happens to a pod on purpose is
// not a failure, and what a dead node does to its pods belongs to the node.
func podExcuse(pod *corev1.Pod, facts Facts) Excuse {
	switch {
	case leaving(pod), mirror(pod): // static_pod_failing speaks for the latter
		return Leaving
	case facts.NodeFailing:
		return Masked
	}
	return None
}

// leaving reports whether a pod is done, or goes on purpose.
func leaving(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil || // scaled down, replaced, evicted, deleted by hand
		pod.Status.Phase == corev1.PodSucceeded ||
		podCondition(pod, corev1.DisruptionTarget) == corev1.ConditionTrue
}

func podCondition(pod *corev1.Pod, t corev1.PodConditionType) corev1.ConditionStatus {
	if _, c := conditionOf(pod, t); c != nil {
		return c.Status
	}
	return corev1.ConditionUnknown
}

// conditionOf finds a condition, and its index for evidence.
func conditionOf(pod *corev1.Pod, t corev1.PodConditionType) (int, *corev1.PodCondition) {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == t {
			return i, &pod.Status.Conditions[i]
		}
	}
	return -1, nil
}

// containerWell reports whether a container is seen to work: it runs and is
// ready, or has done what it was for. (An init container is ready once it has
// ended well.) A container that does not appear any more, or whose pod as a
// whole has failed and starts nothing again, is not our matter any more.
func containerWell(pod *corev1.Pod, name string) bool {
	if pod.Status.Phase == corev1.PodFailed {
		return true
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		for i := range list {
			c := &list[i]
			if c.Name != name {
				continue
			}
			done := c.State.Terminated != nil && c.State.Terminated.ExitCode == 0 &&
				pod.Spec.RestartPolicy != corev1.RestartPolicyAlways
			return done || c.Ready && c.State.Waiting == nil
		}
	}
	return true
}
