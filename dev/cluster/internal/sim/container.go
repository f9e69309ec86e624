package sim

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// role is the part a container plays in its pod.
type role struct {
	init    bool // must end with 0 before the next begins
	sidecar bool
	waits   bool // containers before it are not done
}

// container takes one container from its last reported state as far as it has got by now.
func (j *judgement) container(c *corev1.Container, old corev1.ContainerStatus, r role) corev1.ContainerStatus {
	s := &containerStep{
		judgement: j, spec: c, role: r, status: *old.DeepCopy(),
		memory:    j.recall(c.Name, old),
		behaviour: j.behaviour(c.Image),
	}
	if s.behaviour.Kind == Good && r.init {
		s.behaviour.Kind = Complete
	}
	s.status.Name = c.Name
	s.step()
	j.verdict.Memory.Containers[c.Name] = s.memory
	return s.status
}

// recall returns what is remembered of a container, or what its status says of it after a restart of the simulator.
func (j *judgement) recall(name string, s corev1.ContainerStatus) ContainerMemory {
	if m, ok := j.verdict.Memory.Containers[name]; ok {
		return m
	}
	m := ContainerMemory{Failures: int(s.RestartCount)}
	switch {
	case s.State.Running != nil:
		m.Since = s.State.Running.StartedAt.Time
	case s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff" && s.LastTerminationState.Terminated != nil:
		m.Since, m.Failures = s.LastTerminationState.Terminated.FinishedAt.Time, int(s.RestartCount)+1
	case s.State.Waiting != nil && !creating(s.State.Waiting.Reason):
		m.Since, m.Pulls = j.now, 1
	}
	return m
}

// containerStep is one container being judged.
type containerStep struct {
	*judgement
	spec      *corev1.Container
	role      role
	behaviour Behaviour
	status    corev1.ContainerStatus
	memory    ContainerMemory
}

func (s *containerStep) step() {
	changed := s.status.Image != "" && s.status.Image != s.spec.Image
	switch {
	case s.status.State.Terminated != nil:
		return // restarts are decided when it ends; what is still Terminated stays so
	case s.status.State.Running != nil:
		if changed || !s.behaviour.starts() || s.resizedWithRestart() {
			s.restart()
			return
		}
		s.running()
	default:
		if changed {
			s.memory = ContainerMemory{Since: s.now.Add(-s.StartDelay)} // its back-off was for the other image
			s.tryStart()
			return
		}
		s.waiting()
	}
}

// waiting holds a container back until it may be tried (again).
func (s *containerStep) waiting() {
	reason := ""
	if s.status.State.Waiting != nil {
		reason = s.status.State.Waiting.Reason
	}
	if reason == "" || (creating(reason) && s.role.waits) {
		s.wait(s.creatingReason(), "")
		if s.role.waits {
			return
		}
	}
	if s.memory.Since.IsZero() {
		s.memory.Since = s.now
	}
	due := s.now
	switch reason {
	case "", "ContainerCreating", "PodInitializing":
		due = s.memory.Since.Add(s.StartDelay)
	case "CrashLoopBackOff":
		due = s.memory.Since.Add(s.backoff(s.memory.Failures - 1))
	case "ErrImagePull":
		if due = s.memory.Since.Add(s.PullRetry); !s.now.Before(due) {
			s.wait("ImagePullBackOff", fmt.Sprintf("Back-off pulling image %q: ErrImagePull: %s", s.spec.Image, s.pullError()))
			s.event(corev1.EventTypeNormal, "BackOff", "Back-off pulling image %q", s.spec.Image)
			s.wake(s.memory.Since.Add(s.backoff(s.memory.Pulls)))
			return
		}
	case "ImagePullBackOff":
		due = s.memory.Since.Add(s.backoff(s.memory.Pulls))
	}
	if s.now.Before(due) {
		s.wake(due)
		return
	}
	s.tryStart()
}

func (s *containerStep) creatingReason() string {
	if len(s.Pod.Spec.InitContainers) > 0 {
		return "PodInitializing"
	}
	return "ContainerCreating"
}

func (s *containerStep) wait(reason, message string) {
	s.status.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	s.status.Image, s.status.Ready, s.status.Started = s.spec.Image, false, new(bool)
}

// tryStart runs the container, or says what keeps it from running.
func (s *containerStep) tryStart() {
	began := s.status.State.Waiting != nil && !creating(s.status.State.Waiting.Reason)
	missing := s.MissingConfig[s.spec.Name]
	if s.behaviour.Kind == ConfigError {
		missing = `configmap "simulated" not found`
	}
	switch {
	case s.behaviour.Kind == StuckCreating:
		s.wait(s.creatingReason(), "")
	case s.MissingVolume != "" && !began && s.status.LastTerminationState.Terminated == nil:
		s.wait(s.creatingReason(), "")
		s.event(corev1.EventTypeWarning, "FailedMount", "MountVolume.SetUp failed: %s", s.MissingVolume)
	case s.behaviour.Kind == InvalidImage:
		if s.reasonIsNot("InvalidImageName") {
			s.event(corev1.EventTypeWarning, "InspectFailed", "Failed to apply default image tag %q: couldn't parse image name", s.spec.Image)
		}
		s.wait("InvalidImageName", fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: invalid reference format", s.spec.Image, s.spec.Image))
	case s.behaviour.Kind == Missing || s.behaviour.Kind == NotFound:
		s.memory.Since, s.memory.Pulls = s.now, s.memory.Pulls+1
		s.wait("ErrImagePull", s.pullError())
		s.event(corev1.EventTypeWarning, "Failed", "Failed to pull image %q: %s", s.spec.Image, s.pullError())
		s.wake(s.now.Add(s.PullRetry))
	case missing != "":
		if s.reasonIsNot("CreateContainerConfigError") {
			s.event(corev1.EventTypeWarning, "Failed", "Error: %s", missing)
		}
		s.wait("CreateContainerConfigError", missing)
	default:
		s.start()
	}
}

func (s *containerStep) reasonIsNot(reason string) bool {
	return s.status.State.Waiting == nil || s.status.State.Waiting.Reason != reason
}

func (s *containerStep) pullError() string {
	return fmt.Sprintf("rpc error: code = NotFound desc = failed to pull and unpack image %q: failed to resolve reference %q: manifest unknown: not found", s.spec.Image, s.spec.Image)
}

func (s *containerStep) start() {
	if s.status.LastTerminationState.Terminated != nil {
		s.status.RestartCount++
	}
	s.memory.Since, s.memory.Pulls = s.now, 0
	s.status.Image = s.spec.Image
	s.status.ImageID = imageID(s.spec.Image)
	s.status.ContainerID = "containerd://" + digest(string(s.Pod.UID), s.spec.Name, strconv.Itoa(int(s.status.RestartCount)))
	s.status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: s.time()}}
	s.running()
}

func imageID(image string) string {
	name, _, _ := strings.Cut(image, "@")
	if i := strings.LastIndex(name, ":"); i > strings.LastIndex(name, "/") {
		name = name[:i]
	}
	return name + "@sha256:" + digest(image)
}

// running reports a running container, and ends it when its behaviour says so.
func (s *containerStep) running() {
	fate := fateOf(s.Timing, s.behaviour, s.spec, s.status.RestartCount)
	if fate.exits {
		due := s.memory.Since.Add(fate.after)
		if !s.now.Before(due) {
			s.exit(fate.code, fate.reason)
			return
		}
		s.wake(due)
	}
	started := true
	s.status.Ready, s.status.Started = fate.ready, &started
	s.status.Resources = s.spec.Resources.DeepCopy()
	s.status.AllocatedResources = s.spec.Resources.Requests.DeepCopy()
}

// exit ends the running container, and restarts it as the kubelet would: the first time at once, then after a delay
// that doubles until the container has run for twice the longest delay.
func (s *containerStep) exit(code int32, reason string) {
	ended := s.terminated(&s.status, code, reason)
	s.status.Ready, s.status.Started = false, new(bool)
	if s.behaviour.Kind == Liveness {
		s.event(corev1.EventTypeWarning, "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500")
		s.event(corev1.EventTypeNormal, "Killing", "Container %s failed liveness probe, will be restarted", s.spec.Name)
	}
	if !s.restarts(code) {
		s.status.State = corev1.ContainerState{Terminated: ended}
		s.status.Ready = s.role.init && code == 0
		return
	}
	if s.now.Sub(s.memory.Since) > 2*s.BackoffCap {
		s.memory.Failures = 0
	}
	s.memory.Since, s.memory.Failures = s.now, s.memory.Failures+1
	s.status.LastTerminationState = corev1.ContainerState{Terminated: ended}
	if s.memory.Failures == 1 {
		s.tryStart()
		return
	}
	delay := s.backoff(s.memory.Failures - 1)
	pod := fmt.Sprintf("%s_%s(%s)", s.Pod.Name, s.Pod.Namespace, s.Pod.UID)
	s.wait("CrashLoopBackOff", fmt.Sprintf("back-off %s restarting failed container=%s pod=%s", delay, s.spec.Name, pod))
	s.event(corev1.EventTypeWarning, "BackOff", "Back-off restarting failed container %s in pod %s", s.spec.Name, pod)
	s.wake(s.now.Add(delay))
}

func (s *containerStep) restarts(code int32) bool {
	if s.role.sidecar {
		return true
	}
	if s.role.init && code == 0 {
		return false
	}
	switch s.Pod.Spec.RestartPolicy {
	case corev1.RestartPolicyNever:
		return false
	case corev1.RestartPolicyOnFailure:
		return code != 0
	}
	return true
}

// restart replaces a running container because its image, its behaviour or its resources are no longer the ones it was started with.
func (s *containerStep) restart() {
	s.event(corev1.EventTypeNormal, "Killing", "Container %s definition changed, will be restarted", s.spec.Name)
	s.status.LastTerminationState = corev1.ContainerState{Terminated: s.terminated(&s.status, 143, "Error")}
	s.status.State = corev1.ContainerState{}
	s.memory = ContainerMemory{Since: s.now}
	s.tryStart()
}

// resizedWithRestart reports a resize in place of a resource whose policy asks for a restart.
func (s *containerStep) resizedWithRestart() bool {
	if s.status.Resources == nil {
		return false
	}
	for _, p := range s.spec.ResizePolicy {
		if p.RestartPolicy != corev1.RestartContainer {
			continue
		}
		if !equal(s.spec.Resources.Requests, s.status.Resources.Requests, p.ResourceName) ||
			!equal(s.spec.Resources.Limits, s.status.Resources.Limits, p.ResourceName) {
			return true
		}
	}
	return false
}

func equal(a, b corev1.ResourceList, name corev1.ResourceName) bool {
	return a.Name(name, "").Cmp(*b.Name(name, "")) == 0
}
