package detect

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// barePodFailed finds pods without a controller that have failed for good,
// for whatever reason: nobody makes them anew, and we only where the pod permits it.
var barePodFailed = Detector[*corev1.Pod]{
	Name: "bare_pod_failed",
	Row:  "P18",
	Type: heal.PodFailure,

	Reasons: []string{"BarePodFailed"},
	Hold:    "2 × `pod_check_interval`; for 24 h",
	Excused: "the pod is deleted, disrupted on purpose or a mirror pod; its node is not ready",

	Find:   findBarePodFailed,
	Excuse: evictedExcuse,
}

const bareTold = 24 * time.Hour

func findBarePodFailed(pod *corev1.Pod, facts Facts) []Finding {
	if pod.Status.Phase != corev1.PodFailed || controlled(pod) || facts.Now.Sub(endedAt(pod)) >= bareTold {
		return nil
	}
	f := Finding{
		Reason: "BarePodFailed", Hold: 2 * facts.PodCheckInterval, // who ran it by hand may be about to delete it
		Description: "the pod has failed, and has no controller that would make it anew",
		Evidence:    endEvidence(pod),
		Metadata:    map[string]string{},
	}
	if pod.Annotations[heal.AnnotationRecreate] == "true" {
		f.Metadata[heal.MetadataRecreate] = "permitted"
	}
	if pod.Status.Reason != "" {
		f.Description += fmt.Sprintf(" (%s)", pod.Status.Reason)
		f.Metadata["status_reason"] = pod.Status.Reason
	}
	for _, c := range containers(pod) {
		if end := c.State.Terminated; end != nil && end.ExitCode != 0 {
			f.Metadata["container"] = c.Name
			f.tellEnd(c.path+".state", end)
			break
		}
	}
	return []Finding{f}
}
