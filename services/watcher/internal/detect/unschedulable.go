package detect

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// unschedulable finds pods for which the scheduler knows no node. An
// autoscaler is given the time to bring one. A pod that is held back by a
// scheduling gate waits on purpose, and has another reason.
var unschedulable = Detector[*corev1.Pod]{
	Name: "unschedulable",
	Row:  "P11",
	Type: heal.PodFailure,

	Reasons: []string{corev1.PodReasonUnschedulable},
	Hold:    "5 min",
	Excused: podExcused + "; held back by a scheduling gate; cluster-autoscaler said in the last 10 min that it brings a node",

	Find: findUnschedulable,
	Excuse: func(pod *corev1.Pod, facts Facts) Excuse {
		if e := podExcuse(pod, facts); e != None {
			return e
		}
		if facts.event(TriggeredScaleUp, "") != nil {
			return Masked
		}
		return None
	},
}

const unschedulableHold = 5 * time.Minute

func findUnschedulable(pod *corev1.Pod, _ Facts) []Finding {
	if over(pod) {
		return nil
	}
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type != corev1.PodScheduled || c.Status != corev1.ConditionFalse || c.Reason != corev1.PodReasonUnschedulable {
			continue
		}
		path := fmt.Sprintf("status.conditions[%d]", i)
		f := Finding{
			Reason: corev1.PodReasonUnschedulable, Hold: unschedulableHold,
			Description: "no node can take the pod",
			Evidence:    []heal.Evidence{{Path: path + ".reason", Value: c.Reason}},
			Metadata:    map[string]string{},
		}
		if c.Message != "" {
			f.Description += ": " + c.Message
			f.Evidence = append(f.Evidence, heal.Evidence{Path: path + ".message", Value: c.Message})
		}
		if lacks := obstacles(c.Message); lacks != "" {
			f.Metadata["obstacles"] = lacks
		}
		return []Finding{f}
	}
	return nil
}

// obstacles tells from the scheduler's words what stands in the way.
func obstacles(message string) string {
	message = strings.ToLower(message)
	var all []string
	for _, o := range []struct{ name, words string }{
		{"cpu", "insufficient cpu"},
		{"memory", "insufficient memory"},
		{"ephemeral_storage", "insufficient ephemeral-storage"},
		{"pods", "too many pods"},
		{"taint", "taint"},
		{"cordon", "were unschedulable"},
		{"affinity", "affinity"},
		{"topology", "topology spread"},
		{"ports", "free ports"},
		{"volume", "volume"},
	} {
		if strings.Contains(message, o.words) {
			all = append(all, o.name)
		}
	}
	return strings.Join(all, ",")
}
