package detect

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// leftover finds pods that were refused by their kubelet, or stopped as the
// node shut down, and that nobody has tidied up. Their controller has made
// others already.
var leftover = Detector[*corev1.Pod]{
	Name: "leftover",
	Row:  "P16",
	Type: heal.PodFailure,

	Reasons: []string{"LeftoverPod"},
	Hold:    "10 min; for 1 h",
	Excused: podExcused + "; it has no controller (bare_pod_failed)",

	Find: func(pod *corev1.Pod, facts Facts) []Finding {
		if pod.Status.Phase != corev1.PodFailed || !turnedAway(pod.Status.Reason) || !controlled(pod) || facts.Now.Sub(endedAt(pod)) >= leftoverTold {
			return nil
		}
		return []Finding{{
			Reason: "LeftoverPod", Hold: leftoverHold,
			Description: fmt.Sprintf("the pod has failed (%s) and was not tidied up", pod.Status.Reason),
			Evidence:    endEvidence(pod),
			Metadata:    map[string]string{"status_reason": pod.Status.Reason},
		}}
	},
	Excuse: podExcuse,
}

const leftoverHold = 10 * time.Minute

// turnedAway reports whether a pod failed for a reason that lies with its node
// alone: OutOfcpu, OutOfmemory and their like are refusals too.
func turnedAway(reason string) bool {
	return strings.HasPrefix(reason, "OutOf") ||
		slices.Contains([]string{"Terminated", "NodeShutdown", "Shutdown", "NodeAffinity", "Preempting", "UnexpectedAdmissionError"}, reason)
}
