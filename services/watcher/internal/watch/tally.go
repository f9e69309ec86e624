package watch

import (
	"strconv"
	"strings"
	"time"
	"unique"

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

// has reports whether anything happened to a pod of late.
func (r *tallies) has(uid []byte) bool { return r.pods[string(uid)] != nil }

func (r *tallies) forget(uid string) { delete(r.pods, uid) }

// noteRestarts takes in what a change says. A container without a count in
// before had not been started again yet.
func noteRestarts(r *tallies, before counts, pod *corev1.Pod, now time.Time) {
	each(pod, func(c *corev1.ContainerStatus) {
		if grown := int(c.RestartCount) - before.of(c.Name); grown > 0 {
			r.add(string(pod.UID), c.Name, grown, now)
		}
	})
}

// noteBackoffs takes in that containers begin to wait in CrashLoopBackOff.
// Before is the pod as we last held it: nil for one that was well, or that is
// new to us.
func noteBackoffs(r *tallies, before, pod *corev1.Pod, now time.Time) {
	each(pod, func(c *corev1.ContainerStatus) {
		if backsOff(c) && !backsOff(statusOf(before, c.Name)) {
			r.add(string(pod.UID), c.Name, 1, now)
		}
	})
}

func backsOff(c *corev1.ContainerStatus) bool {
	return c.State.Waiting != nil && c.State.Waiting.Reason == "CrashLoopBackOff"
}

// noteOOMKills takes in that containers have ended for want of memory. Unlike
// a total of restarts, such an end says when it was, by which it is known again.
func noteOOMKills(r *tallies, pod *corev1.Pod, now time.Time) {
	each(pod, func(c *corev1.ContainerStatus) {
		for _, end := range []*corev1.ContainerStateTerminated{c.LastTerminationState.Terminated, c.State.Terminated} {
			if end == nil || end.Reason != "OOMKilled" || now.Sub(end.FinishedAt.Time) >= r.window {
				continue
			}
			known := r.pods[string(pod.UID)][c.Name]
			if len(known) == 0 || known[len(known)-1].Before(end.FinishedAt.Time) {
				r.add(string(pod.UID), c.Name, 1, end.FinishedAt.Time)
			}
		}
	})
}

// each hands over every container's status.
func each(pod *corev1.Pod, do func(c *corev1.ContainerStatus)) {
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			do(&list[i])
		}
	}
}

// statusOf is the status of a container, or an empty one.
func statusOf(pod *corev1.Pod, container string) (status *corev1.ContainerStatus) {
	status = &corev1.ContainerStatus{}
	if pod != nil {
		each(pod, func(c *corev1.ContainerStatus) {
			if c.Name == container {
				status = c
			}
		})
	}
	return status
}

// counts are the restarts of a pod's containers, as "name=n,…" of those that
// have been. Pods of one workload often have the same, which is kept once.
type counts struct{ unique.Handle[string] }

func countsOf(pod *corev1.Pod) counts {
	var all []byte
	each(pod, func(c *corev1.ContainerStatus) {
		if c.RestartCount > 0 {
			all = append(all, c.Name...)
			all = append(all, '=')
			all = strconv.AppendInt(all, int64(c.RestartCount), 10)
			all = append(all, ',')
		}
	})
	if len(all) == 0 {
		return counts{}
	}
	return counts{unique.Make(string(all))}
}

// of is how often a container has been started again.
func (c counts) of(container string) int {
	if c == (counts{}) {
		return 0
	}
	for entry := range strings.SplitSeq(c.Value(), ",") {
		if name, n, found := strings.Cut(entry, "="); found && name == container {
			total, _ := strconv.Atoi(n) // written by countsOf
			return total
		}
	}
	return 0
}
