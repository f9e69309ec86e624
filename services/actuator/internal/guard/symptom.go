package guard

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// symptom refuses unless the live object itself shows what was reported: a
// forged or outdated decision must not touch a healthy one.
var symptom = Guard{Name: "symptom", Judge: func(f Facts) Verdict {
	look, ok := symptoms[f.Decision.Type]
	if !ok {
		return Veto("SymptomUnknown", "how a %s shows on %s is not known here, so it cannot be checked", f.Decision.Type, f.Target)
	}
	sick, seen := look(f)
	if sick {
		return Allow("%s", seen)
	}
	v := Moot("Recovered", "%s shows no %s any more: %s", f.Target, f.Decision.Failure.Reason, seen)
	if f.Pod != nil && restartedSince(f.Pod, f.Now.Add(-believed)) {
		v.Again = 5 * time.Second
	}
	return v
}}

// believed is how long a container must have run since its last restart to
// count as recovered: one that crashes again and again looks well in between.
const believed = time.Minute

func restartedSince(p *corev1.Pod, since time.Time) bool {
	return slices.ContainsFunc(containers(p), func(c corev1.ContainerStatus) bool {
		end := lastEnd(c)
		return c.RestartCount > 0 && end != nil && end.ExitCode != 0 &&
			c.State.Running != nil && c.State.Running.StartedAt.After(since)
	})
}

// symptoms says, by type of failure, whether the live object shows it, and
// what was seen.
var symptoms = map[heal.FailureType]func(Facts) (sick bool, seen string){
	heal.PodFailure:        podSymptom,
	heal.NodeFailure:       nodeSymptom,
	heal.DeploymentFailure: deploymentSymptom,
	heal.ServiceFailure:    serviceSymptom,

	heal.ResourceExhaustion: exhausted,
}

func podSymptom(f Facts) (bool, string) {
	switch {
	case f.Pod == nil:
		return false, "it is not a pod"
	case f.Decision.Strategy == heal.Resize:
		return killedForMemory(f)
	}
	return SickPod(f.Pod)
}

// SickPod reports whether a container of the pod cannot run, or keeps ending,
// and what shows it. A pod that is not Ready for another reason, such as
// having just started, is not sick.
func SickPod(p *corev1.Pod) (bool, string) {
	if Ended(p) {
		return true, fmt.Sprintf("it has ended and is left over: %s %s", p.Status.Phase, heal.Clean(p.Status.Reason, 64))
	}
	if stuck, seen := StuckPod(p); stuck {
		return true, seen
	}
	for _, c := range containers(p) {
		if end := lastEnd(c); !c.Ready && c.RestartCount > 0 && end != nil && end.ExitCode != 0 {
			return true, fmt.Sprintf("container %s is not ready, %s, last exit %d %s",
				c.Name, restarts(c), end.ExitCode, heal.Clean(end.Reason, 64))
		}
	}
	if IsReady(p) {
		return false, "it is Ready"
	}
	return false, fmt.Sprintf("it is %s and not Ready, but no container fails", p.Status.Phase)
}

// Ended reports whether the pod failed as a whole, such as one that its kubelet
// evicted: nothing of it runs or ever will, and its controller has made another.
func Ended(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed }

// StuckPod reports whether a container of the pod waits in a state that it
// does not leave by itself, and what shows it.
func StuckPod(p *corev1.Pod) (bool, string) {
	for _, c := range containers(p) {
		if w := c.State.Waiting; w != nil && slices.Contains(hopeless, w.Reason) {
			return true, fmt.Sprintf("container %s waits in %s, %s", c.Name, w.Reason, restarts(c))
		}
	}
	return false, ""
}

func containers(p *corev1.Pod) []corev1.ContainerStatus {
	return slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses)
}

// hopeless are the states of waiting that a container does not leave by
// itself. ErrImagePull is not among them: it is what a single failed attempt
// looks like, and turns to ImagePullBackOff.
var hopeless = []string{
	"CrashLoopBackOff", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError",
	"CreateContainerConfigError", "CreateContainerError", "RunContainerError",
}

func lastEnd(c corev1.ContainerStatus) *corev1.ContainerStateTerminated {
	if c.State.Terminated != nil {
		return c.State.Terminated
	}
	return c.LastTerminationState.Terminated
}

func restarts(c corev1.ContainerStatus) string {
	if c.RestartCount == 1 {
		return "1 restart"
	}
	return fmt.Sprintf("%d restarts", c.RestartCount)
}

func nodeSymptom(f Facts) (bool, string) {
	if f.Node == nil {
		return false, "it is not a node"
	}
	ready := *f.Node
	ready.Status.Conditions = slices.DeleteFunc(slices.Clone(f.Node.Status.Conditions), func(c corev1.NodeCondition) bool {
		return c.Type != corev1.NodeReady && string(c.Type) != f.Decision.Failure.Reason // a problem that it is not about
	})
	well, seen := NodeWell(&ready, f.Now)
	return !well, seen
}
