package sim

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Timing is how long things take on a simulated node.
type Timing struct {
	StartDelay     time.Duration // from seeing a pod to running its containers
	CrashDelay     time.Duration // from start to crash
	KillDelay      time.Duration // longest time a deleted pod takes to end, unless its grace is shorter
	LivenessPeriod time.Duration // between two kills by a failing liveness probe
	GrowTime       time.Duration // from start until the memory is used up
	PullRetry      time.Duration // how long ErrImagePull shows before ImagePullBackOff
	BackoffBase    time.Duration
	BackoffCap     time.Duration
}

// DefaultTiming is a quick kubelet with Kubernetes' own back-off.
func DefaultTiming() Timing {
	return Timing{
		StartDelay:     200 * time.Millisecond,
		CrashDelay:     100 * time.Millisecond,
		KillDelay:      300 * time.Millisecond,
		LivenessPeriod: 20 * time.Second,
		GrowTime:       20 * time.Second,
		PullRetry:      time.Second,
		BackoffBase:    10 * time.Second,
		BackoffCap:     300 * time.Second,
	}
}

// backoff is the wait after so many failures in a row that do cost a wait: the base, doubling up to the cap.
func (t Timing) backoff(failures int) time.Duration {
	d := t.BackoffBase
	for range failures - 1 {
		if d *= 2; d >= t.BackoffCap {
			return t.BackoffCap
		}
	}
	return d
}

// Facts is all that the judgement of a pod depends on, besides the time and what is remembered of it.
type Facts struct {
	Pod       *corev1.Pod
	NodeAlive bool
	NodeIP    string
	PodIP     string // for a pod that has none yet
	// MissingConfig says, by container, what its environment refers to and does not exist.
	MissingConfig map[string]string
	MissingVolume string // the same for the pod's volumes
}

// Memory is what the API's timestamps, which have whole seconds, do not say. Lost, it is rebuilt from the status.
type Memory struct {
	Terminating time.Time // when the deletion was seen
	Containers  map[string]ContainerMemory
}

// ContainerMemory is one container's share.
type ContainerMemory struct {
	Since    time.Time // when the present state began
	Failures int       // exits in a row, for the restart back-off
	Pulls    int       // failed pulls in a row
}

// Verdict is what to do about a pod now, and when to judge it again.
type Verdict struct {
	Memory Memory
	Status *corev1.PodStatus // nil: nothing to write
	Delete bool              // remove the object from the API server
	Wake   time.Time         // zero: only when something changes
	Events []Event
}

// Event is a Kubernetes event to record about a pod.
type Event struct{ Type, Reason, Message string }

// Judge says what a kubelet would report of a pod at a time. Judging again later with the same facts, the memory
// returned, and the status written, goes on from there.
func Judge(t Timing, f Facts, m Memory, now time.Time) Verdict {
	if !f.NodeAlive {
		return Verdict{Memory: m}
	}
	j := &judgement{Timing: t, Facts: f, now: now, status: f.Pod.Status.DeepCopy()}
	j.verdict.Memory = Memory{Terminating: m.Terminating, Containers: make(map[string]ContainerMemory, len(m.Containers))}
	for name, c := range m.Containers {
		j.verdict.Memory.Containers[name] = c
	}
	switch {
	case f.Pod.DeletionTimestamp != nil:
		j.terminate()
	case !finished(f.Pod.Status.Phase):
		j.run()
	}
	if !apiequality.Semantic.DeepEqual(j.status, &f.Pod.Status) {
		j.verdict.Status = j.status
	}
	return j.verdict
}

func finished(p corev1.PodPhase) bool { return p == corev1.PodSucceeded || p == corev1.PodFailed }

// judgement is one call of Judge at work. status is the copy that becomes the verdict's.
type judgement struct {
	Timing
	Facts
	now     time.Time
	status  *corev1.PodStatus
	verdict Verdict
}

func (j *judgement) wake(at time.Time) {
	if j.verdict.Wake.IsZero() || at.Before(j.verdict.Wake) {
		j.verdict.Wake = at
	}
}

func (j *judgement) event(kind, reason, format string, args ...any) {
	j.verdict.Events = append(j.verdict.Events, Event{Type: kind, Reason: reason, Message: fmt.Sprintf(format, args...)})
}

// behaviour is the pod's own, if it has one, else the image's.
func (j *judgement) behaviour(image string) Behaviour {
	if own, ok := j.Pod.Annotations[AnnotationBehaviour]; ok {
		return behaviourOf(own)
	}
	return behaviourOf(image)
}

func (j *judgement) terminate() {
	if j.Pod.DeletionGracePeriodSeconds != nil && *j.Pod.DeletionGracePeriodSeconds == 0 {
		return // done here; what is left waits for a finalizer
	}
	for _, c := range j.Pod.Spec.Containers {
		if j.behaviour(c.Image).Kind == StuckTerminating {
			return
		}
	}
	first := j.verdict.Memory.Terminating.IsZero()
	if first {
		j.verdict.Memory.Terminating = j.now
	}
	due := j.now
	if !finished(j.status.Phase) && anyRunning(j.status) {
		due = j.verdict.Memory.Terminating.Add(min(j.KillDelay, j.gracePeriod()))
		if first {
			j.event(corev1.EventTypeNormal, "Killing", "Stopping container %s", j.Pod.Spec.Containers[0].Name)
		}
	}
	if j.now.Before(due) {
		for i := range j.status.ContainerStatuses {
			j.status.ContainerStatuses[i].Ready = false
		}
		j.conditions()
		j.wake(due)
		return
	}
	j.verdict.Delete = true
	// The last status is only seen by whoever holds the object with a finalizer, such as the job controller.
	if len(j.Pod.Finalizers) > 0 && !finished(j.status.Phase) {
		j.end(143, "Error")
		j.status.Phase = corev1.PodFailed
		j.conditions()
	}
}

func (j *judgement) gracePeriod() time.Duration {
	if s := j.Pod.DeletionGracePeriodSeconds; s != nil {
		return time.Duration(*s) * time.Second
	}
	return j.KillDelay
}

func anyRunning(s *corev1.PodStatus) bool {
	running := func(c corev1.ContainerStatus) bool { return c.State.Running != nil }
	return slices.ContainsFunc(s.ContainerStatuses, running) || slices.ContainsFunc(s.InitContainerStatuses, running)
}

// end stops every container that has not ended.
func (j *judgement) end(code int32, reason string) {
	for _, list := range [][]corev1.ContainerStatus{j.status.InitContainerStatuses, j.status.ContainerStatuses} {
		for i := range list {
			c := &list[i]
			c.Ready, c.Started = false, new(bool)
			if c.State.Terminated != nil {
				continue
			}
			c.State = corev1.ContainerState{Terminated: j.terminated(c, code, reason)}
		}
	}
}

func (j *judgement) terminated(c *corev1.ContainerStatus, code int32, reason string) *corev1.ContainerStateTerminated {
	t := &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason, ContainerID: c.ContainerID, FinishedAt: j.time(), StartedAt: j.time()}
	if c.State.Running != nil {
		t.StartedAt = c.State.Running.StartedAt
	}
	return t
}

// time is now as the API keeps it: whole seconds.
func (j *judgement) time() metav1.Time { return metav1.NewTime(j.now.Truncate(time.Second)) }

func (j *judgement) run() {
	if j.status.StartTime == nil {
		start := j.time()
		j.status.StartTime = &start
	}
	j.status.HostIP, j.status.HostIPs = j.NodeIP, []corev1.HostIP{{IP: j.NodeIP}}
	if own, ok := j.Pod.Annotations[AnnotationBehaviour]; ok && behaviourOf(own).Kind == Evicted {
		j.evict()
		return
	}
	initialized, failed := j.initContainers()
	old := statuses(j.Pod.Status.ContainerStatuses)
	j.status.ContainerStatuses = nil
	for i := range j.Pod.Spec.Containers {
		c := &j.Pod.Spec.Containers[i]
		j.status.ContainerStatuses = append(j.status.ContainerStatuses, j.container(c, old[c.Name], role{waits: !initialized}))
	}
	j.status.Phase = j.phase(failed)
	if finished(j.status.Phase) {
		j.end(0, "Completed") // sidecars, and what never began
	}
	j.sandbox()
	j.conditions()
}

// evict is what a kubelet does that runs out of a resource.
func (j *judgement) evict() {
	j.end(137, "Error")
	j.status.Phase, j.status.Reason = corev1.PodFailed, "Evicted"
	j.status.Message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 42Mi."
	j.setCondition(corev1.DisruptionTarget, corev1.ConditionTrue, "TerminationByKubelet", j.status.Message)
	j.conditions()
	j.event(corev1.EventTypeWarning, "Evicted", "%s", j.status.Message)
}

// initContainers steps the init containers in their order. Sidecars (restartPolicy Always) let the next begin once they run.
func (j *judgement) initContainers() (initialized, failed bool) {
	old := statuses(j.Pod.Status.InitContainerStatuses)
	j.status.InitContainerStatuses = nil
	initialized = true
	for i := range j.Pod.Spec.InitContainers {
		c := &j.Pod.Spec.InitContainers[i]
		r := role{init: !sidecar(c), sidecar: sidecar(c), waits: !initialized || failed}
		s := j.container(c, old[c.Name], r)
		j.status.InitContainerStatuses = append(j.status.InitContainerStatuses, s)
		if r.sidecar {
			initialized = initialized && (s.State.Running != nil || s.LastTerminationState.Terminated != nil)
			continue
		}
		done := s.State.Terminated != nil && s.State.Terminated.ExitCode == 0
		initialized = initialized && done
		failed = failed || (s.State.Terminated != nil && !done)
	}
	return initialized, failed
}

func sidecar(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

func statuses(list []corev1.ContainerStatus) map[string]corev1.ContainerStatus {
	m := make(map[string]corev1.ContainerStatus, len(list))
	for _, s := range list {
		m[s.Name] = s
	}
	return m
}

// phase follows the kubelet's getPhase.
func (j *judgement) phase(initFailed bool) corev1.PodPhase {
	if initFailed {
		return corev1.PodFailed
	}
	pending, ended, succeeded := 0, 0, 0
	for _, s := range j.status.ContainerStatuses {
		switch {
		case s.State.Terminated != nil: // for good
			ended++
			if s.State.Terminated.ExitCode == 0 {
				succeeded++
			}
		case s.State.Waiting != nil && s.LastTerminationState.Terminated == nil:
			pending++
		}
	}
	switch {
	case pending > 0:
		return corev1.PodPending
	case ended < len(j.status.ContainerStatuses):
		return corev1.PodRunning
	case succeeded == ended:
		return corev1.PodSucceeded
	}
	return corev1.PodFailed
}

// sandbox gives the pod its network once any container has got beyond being created.
func (j *judgement) sandbox() {
	created := slices.ContainsFunc(slices.Concat(j.status.InitContainerStatuses, j.status.ContainerStatuses), func(s corev1.ContainerStatus) bool {
		return s.State.Waiting == nil || !creating(s.State.Waiting.Reason)
	})
	switch {
	case finished(j.status.Phase):
		j.setCondition(corev1.PodReadyToStartContainers, corev1.ConditionFalse, "", "")
	case created:
		j.setCondition(corev1.PodReadyToStartContainers, corev1.ConditionTrue, "", "")
	default:
		j.setCondition(corev1.PodReadyToStartContainers, corev1.ConditionFalse, "", "")
		return
	}
	if j.status.PodIP == "" {
		j.status.PodIP = j.PodIP
		if j.Pod.Spec.HostNetwork {
			j.status.PodIP = j.NodeIP
		}
		j.status.PodIPs = []corev1.PodIP{{IP: j.status.PodIP}}
	}
}

func creating(reason string) bool {
	return reason == "ContainerCreating" || reason == "PodInitializing"
}

func (j *judgement) conditions() {
	j.status.ObservedGeneration = j.Pod.Generation
	if finished(j.status.Phase) {
		reason := "PodCompleted"
		if j.status.Phase == corev1.PodFailed {
			reason = "PodFailed"
		}
		j.setCondition(corev1.PodReady, corev1.ConditionFalse, reason, "")
		j.setCondition(corev1.ContainersReady, corev1.ConditionFalse, reason, "")
		return
	}
	var incomplete, unready []string
	for i, s := range j.status.InitContainerStatuses {
		if i < len(j.Pod.Spec.InitContainers) && sidecar(&j.Pod.Spec.InitContainers[i]) {
			if !s.Ready {
				unready = append(unready, s.Name)
			}
			if s.State.Running == nil && s.LastTerminationState.Terminated == nil {
				incomplete = append(incomplete, s.Name)
			}
		} else if s.State.Terminated == nil || s.State.Terminated.ExitCode != 0 {
			incomplete = append(incomplete, s.Name)
		}
	}
	for _, s := range j.status.ContainerStatuses {
		if !s.Ready {
			unready = append(unready, s.Name)
		}
	}
	j.setConditionUnless(corev1.PodInitialized, incomplete, "ContainersNotInitialized", "containers with incomplete status")
	j.setConditionUnless(corev1.ContainersReady, unready, "ContainersNotReady", "containers with unready status")
	if len(unready) > 0 {
		j.setConditionUnless(corev1.PodReady, unready, "ContainersNotReady", "containers with unready status")
		return
	}
	if closed := j.closedGate(); closed != "" {
		j.setCondition(corev1.PodReady, corev1.ConditionFalse, "ReadinessGatesNotReady", closed)
		return
	}
	j.setCondition(corev1.PodReady, corev1.ConditionTrue, "", "")
}

// closedGate says which readiness gate keeps the pod from being ready; empty if none does.
func (j *judgement) closedGate() string {
	for _, g := range j.Pod.Spec.ReadinessGates {
		c := condition(j.status, g.ConditionType)
		if c == nil {
			return fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", g.ConditionType)
		}
		if c.Status != corev1.ConditionTrue {
			return fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", g.ConditionType, c.Status)
		}
	}
	return ""
}

func (j *judgement) setConditionUnless(kind corev1.PodConditionType, names []string, reason, message string) {
	if len(names) == 0 {
		j.setCondition(kind, corev1.ConditionTrue, "", "")
		return
	}
	j.setCondition(kind, corev1.ConditionFalse, reason, fmt.Sprintf("%s: [%s]", message, strings.Join(names, " ")))
}

func (j *judgement) setCondition(kind corev1.PodConditionType, status corev1.ConditionStatus, reason, message string) {
	c := condition(j.status, kind)
	if c == nil {
		j.status.Conditions = append(j.status.Conditions, corev1.PodCondition{Type: kind})
		c = &j.status.Conditions[len(j.status.Conditions)-1]
	}
	if c.Status != status {
		c.Status, c.LastTransitionTime = status, j.time()
	}
	c.Reason, c.Message, c.ObservedGeneration = reason, message, j.Pod.Generation
}

func condition(s *corev1.PodStatus, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range s.Conditions {
		if s.Conditions[i].Type == kind {
			return &s.Conditions[i]
		}
	}
	return nil
}

// digest is an identifier that looks random and is always the same for the same parts.
func digest(parts ...string) string {
	return fmt.Sprintf("%x", sha256.Sum256([]byte(strings.Join(parts, "\x00"))))
}
