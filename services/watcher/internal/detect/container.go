package detect

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A container is a container's status, and where in its pod it stands.
type container struct {
	*corev1.ContainerStatus
	path string // "status.containerStatuses[0]"
	init bool
}

// String is the container as a sentence begins with it.
func (c container) String() string {
	if c.init {
		return "init container " + c.Name
	}
	return "container " + c.Name
}

// waits is why the container waits, or nothing.
func (c container) waits() string {
	if c.State.Waiting == nil {
		return ""
	}
	return c.State.Waiting.Reason
}

// lastEnd is how the container ended, now or before it was started again, and
// the field that says so.
func (c container) lastEnd() (string, *corev1.ContainerStateTerminated) {
	if c.State.Terminated != nil {
		return c.path + ".state", c.State.Terminated
	}
	return c.path + ".lastState", c.LastTerminationState.Terminated
}

// containers is every container of a pod, init containers first.
func containers(pod *corev1.Pod) []container {
	all := make([]container, 0, len(pod.Status.InitContainerStatuses)+len(pod.Status.ContainerStatuses))
	for i := range pod.Status.InitContainerStatuses {
		all = append(all, container{&pod.Status.InitContainerStatuses[i], fmt.Sprintf("status.initContainerStatuses[%d]", i), true})
	}
	for i := range pod.Status.ContainerStatuses {
		all = append(all, container{&pod.Status.ContainerStatuses[i], fmt.Sprintf("status.containerStatuses[%d]", i), false})
	}
	return all
}

// over reports whether a pod as a whole has ended: nothing in it is started
// again, and its containers stay as they were at that moment.
func over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// spokenFor reports whether a detector speaks for the container itself, or it
// waits for a reason that none of them knows: then those that are about the
// pod as a whole are silent.
func spokenFor(c container, facts Facts) bool {
	return c.State.Waiting != nil && !creating(c) || initFailed(c) || restarts(c, facts) || livenessKills(c, facts) || shortOfMemory(c, facts)
}

// findWaiting finds the containers that wait for one of reasons; describe
// makes a Finding of each.
func findWaiting(pod *corev1.Pod, reasons []string, describe func(c container, message string) Finding) []Finding {
	if over(pod) {
		return nil
	}
	var found []Finding
	for _, c := range containers(pod) {
		if !slices.Contains(reasons, c.waits()) {
			continue
		}
		message := c.State.Waiting.Message
		f := describe(c, message)
		f.Part = c.Name
		f.Evidence = []heal.Evidence{{Path: c.path + ".state.waiting.reason", Value: c.waits()}}
		if message != "" {
			f.Evidence = append(f.Evidence, heal.Evidence{Path: c.path + ".state.waiting.message", Value: message})
		}
		if f.Metadata == nil {
			f.Metadata = map[string]string{}
		}
		f.Metadata["container"] = c.Name
		found = append(found, f)
	}
	return found
}

// containerStarted reports whether a container has got as far as being
// started, whatever became of it then. One that does not appear any more, or
// whose pod has ended, is not our matter any more.
func containerStarted(pod *corev1.Pod, name string) bool {
	if over(pod) {
		return true
	}
	for _, c := range containers(pod) {
		if c.Name == name {
			return c.State.Waiting == nil || c.waits() == crashLoopBackOff
		}
	}
	return true
}
