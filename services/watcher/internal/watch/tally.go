package watch

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// maxTallied is how many pods' restarts are remembered at once. Beyond it a
// crash loop waits out its hold instead of being known at once.
const maxTallied = 100_000

// tallies remembers when something happened to containers, of the pods in
// which it did within the window.
type tallies struct {
	window time.Duration
	pods   map[string]map[string]detect.Tally // by UID and container
	limit  int                                // size at which to look for what has left the window …
	swept  time.Time                          // … unless we just did
}

func (r *tallies) add(uid, container string, n int, now time.Time) {
	if r.pods[uid] == nil {
		if len(r.pods) >= max(r.limit, 1024) && now.Sub(r.swept) >= time.Minute {
			r.prune(now)
			r.limit, r.swept = 2*len(r.pods), now
		}
		if len(r.pods) >= maxTallied {
			return
		}
		if r.pods == nil {
			r.pods = map[string]map[string]detect.Tally{}
		}
		r.pods[uid] = map[string]detect.Tally{}
	}
	r.pods[uid][container] = r.pods[uid][container].Add(n, now, r.window)
}

func (r *tallies) prune(now time.Time) {
	for uid := range r.pods {
		if len(r.of(uid, now)) == 0 {
			delete(r.pods, uid)
		}
	}
}

// of counts what happened to a pod's containers within the window.
func (r *tallies) of(uid string, now time.Time) map[string]int {
	tallies := r.pods[uid]
	if tallies == nil {
		return nil
	}
	counts := map[string]int{}
	for container, t := range tallies {
		if n := t.Within(now, r.window); n > 0 {
			counts[container] = n
		}
	}
	return counts
}

func (r *tallies) forget(uid string) { delete(r.pods, uid) }

// noteRestarts takes in what a change says. A container without a status in
// old had not been started yet.
func noteRestarts(r *tallies, old, pod *corev1.Pod, now time.Time) {
	each(old, pod, func(before, c *corev1.ContainerStatus) {
		if grown := int(c.RestartCount - before.RestartCount); grown > 0 {
			r.add(string(pod.UID), c.Name, grown, now)
		}
	})
}

// noteBackoffs takes in that containers begin to wait in CrashLoopBackOff. Old
// is nil for a pod that is new to us.
func noteBackoffs(r *tallies, old, pod *corev1.Pod, now time.Time) {
	each(old, pod, func(before, c *corev1.ContainerStatus) {
		if backsOff(c) && !backsOff(before) {
			r.add(string(pod.UID), c.Name, 1, now)
		}
	})
}

func backsOff(c *corev1.ContainerStatus) bool {
	return c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff"
}

// noteOOMKills takes in that containers have ended for want of memory. Unlike
// a total of restarts, such an end says when it was, also in a pod that is new
// to us: then old is nil.
func noteOOMKills(r *tallies, old, pod *corev1.Pod, now time.Time) {
	each(old, pod, func(before, c *corev1.ContainerStatus) {
		for _, end := range []*corev1.ContainerStateTerminated{c.LastTerminationState.Terminated, c.State.Terminated} {
			if end == nil || end.Reason != "OOMKilled" || now.Sub(end.FinishedAt.Time) >= r.window || knew(before, end) {
				continue
			}
			r.add(string(pod.UID), c.Name, 1, now)
		}
	})
}

// knew reports whether a container's earlier status shows the same end.
func knew(before *corev1.ContainerStatus, end *corev1.ContainerStateTerminated) bool {
	return slices.ContainsFunc([]*corev1.ContainerStateTerminated{before.LastTerminationState.Terminated, before.State.Terminated},
		func(e *corev1.ContainerStateTerminated) bool { return e != nil && e.FinishedAt.Equal(&end.FinishedAt) })
}

// each hands over every container's status, with the one in old, or with an
// empty one if there is none.
func each(old, pod *corev1.Pod, do func(before, c *corev1.ContainerStatus)) {
	if old == nil {
		old = &corev1.Pod{}
	}
	pairs := func(old, list []corev1.ContainerStatus) {
		for i := range list {
			before := &corev1.ContainerStatus{}
			for j := range old {
				if old[j].Name == list[i].Name {
					before = &old[j]
				}
			}
			do(before, &list[i])
		}
	}
	pairs(old.Status.InitContainerStatuses, pod.Status.InitContainerStatuses)
	pairs(old.Status.ContainerStatuses, pod.Status.ContainerStatuses)
}
