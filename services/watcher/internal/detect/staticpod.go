package detect

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// staticPodFailing finds static pods in which something fails, by what the API
// shows of them. They come from a file on their node: no deletion through the
// API restarts them, so whatever is wrong has one reason of its own, which
// calls for people. What it is stands in the metadata.
var staticPodFailing = Detector[*corev1.Pod]{
	Name: "static_pod_failing",
	Row:  "P20",
	Type: heal.PodFailure,

	Reasons: []string{"StaticPodFailing"},
	Hold:    "as for other pods",
	Excused: "the pod is deleted, done or disrupted on purpose; its node is not ready",

	Find:   findStaticPodFailing,
	Excuse: staticExcuse,
	Well:   staticWell,
	Clear:  func(t Thresholds) time.Duration { return t.PodCheckInterval },
}

// ofContainers are the detectors that speak for the containers of a pod, or
// for all of them as a whole.
var ofContainers = []Detector[*corev1.Pod]{
	crashLoop, restarting, oomKilled, livenessKilled, hookFailing, imagePull, imageInvalid, configError,
	containerCreateError, initFailing, stuckCreating, notReady,
}

func findStaticPodFailing(pod *corev1.Pod, facts Facts) []Finding {
	if !mirror(pod) {
		return nil
	}
	var found []Finding
	for _, d := range ofContainers {
		for _, f := range d.Find(pod, facts) {
			if f.Metadata == nil {
				f.Metadata = map[string]string{}
			}
			f.Metadata["state"] = f.Reason
			f.Reason = "StaticPodFailing"
			f.Description = "a static pod: " + f.Description
			found = append(found, f)
		}
	}
	if pod.Status.Phase == corev1.PodFailed {
		found = append(found, Finding{
			Reason: "StaticPodFailing", Hold: 2 * facts.PodCheckInterval,
			Description: "a static pod: it has failed",
			Evidence:    endEvidence(pod),
			Metadata:    map[string]string{"state": "Failed", "status_reason": pod.Status.Reason},
		})
	}
	return found
}

// staticWell is containerWell of a container, and holds of the whole as soon
// as it is not found.
func staticWell(pod *corev1.Pod, part string) bool { return part == "" || containerWell(pod, part) }

// staticExcuse is podExcuse without its last clause for leaving: here, that it
// is a mirror pod is the point.
func staticExcuse(pod *corev1.Pod, facts Facts) Excuse {
	switch {
	case leaving(pod):
		return Leaving
	case facts.NodeFailing:
		return Masked
	}
	return None
}
