package detect

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// stuckTerminating finds pods that were deleted and do not go. The time given
// to them counts from when we first saw them go, by our own clock.
var stuckTerminating = Detector[*corev1.Pod]{
	Name: "stuck_terminating",
	Row:  "P14",
	Type: heal.PodFailure,

	Reasons: []string{"StuckTerminating"},
	Hold:    "its grace period + 5 min",
	Excused: "a mirror pod; its node is not ready",

	Find:   findStuckTerminating,
	Excuse: terminatingExcuse,

	BlamesNode: true,
}

const terminatingHold = 5 * time.Minute

func findStuckTerminating(pod *corev1.Pod, facts Facts) []Finding {
	if pod.DeletionTimestamp == nil {
		return nil
	}
	f := Finding{
		Reason: "StuckTerminating", Hold: terminatingHold,
		Description: "the pod was deleted, but does not go",
		Evidence:    []heal.Evidence{{Path: "metadata.deletionTimestamp", Value: pod.DeletionTimestamp.UTC().Format(time.RFC3339)}},
		Metadata:    map[string]string{},
	}
	if grace := pod.DeletionGracePeriodSeconds; grace != nil && *grace > 0 {
		f.Hold += time.Duration(min(*grace, maxGrace)) * time.Second
		f.Evidence = append(f.Evidence, heal.Evidence{Path: "metadata.deletionGracePeriodSeconds", Value: fmt.Sprint(*grace)})
	}
	if len(pod.Finalizers) > 0 {
		names := strings.Join(pod.Finalizers, ",")
		f.Description = "the pod was deleted, but is held by " + names
		f.Evidence = append(f.Evidence, heal.Evidence{Path: "metadata.finalizers", Value: names})
		f.Metadata["finalizers"] = names
	}
	for i := range facts.Events {
		if e := &facts.Events[i]; e.Reason == failedPreStopHook && e.recent(facts.Now) {
			f.Evidence = append(f.Evidence, e.evidence())
			f.Metadata["hook"] = "preStop"
		}
	}
	return []Finding{f}
}

// maxGrace keeps an absurd grace period from overflowing. (Two years.)
const maxGrace = 2 * 365 * 24 * 3600

// terminatingExcuse is podExcuse without its first clause: here, that the pod
// is to go is the point.
func terminatingExcuse(pod *corev1.Pod, facts Facts) Excuse {
	switch {
	case pod.Annotations[corev1.MirrorPodAnnotationKey] != "":
		return Leaving
	case facts.NodeFailing: // its kubelet cannot say that it is gone
		return Masked
	}
	return None
}
