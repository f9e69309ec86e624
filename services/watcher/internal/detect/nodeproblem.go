package detect

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// nodeProblem finds what node-problem-detector reports about kernel, file
// system, container runtime and kubelet. While it does not renew its reports,
// it is the detector that may be dead: nothing begins then, and nothing ends.
var nodeProblem = Detector[*corev1.Node]{
	Name: "node_problem",
	Row:  "N5",
	Type: heal.NodeFailure,

	Reasons: names(problems),
	Hold:    "5 min; none for ReadonlyFilesystem",
	Excused: conditionExcused + "; the condition was not renewed for 15 min",

	Find: func(node *corev1.Node, facts Facts) []Finding {
		var found []Finding
		for i, c := range node.Status.Conditions {
			if c.Status != corev1.ConditionTrue || !slices.Contains(problems, c.Type) || stale(c, facts.Now) {
				continue
			}
			hold := problemHold
			if c.Type == readonlyFilesystem {
				hold = 0
			}
			found = append(found, conditionFinding(node, i, hold))
		}
		return found
	},
	Excuse: conditionExcuse,
	Well:   conditionOver,
	Clear:  func(t Thresholds) time.Duration { return t.NodeCheckInterval },
}

const (
	readonlyFilesystem = corev1.NodeConditionType("ReadonlyFilesystem")
	problemHold        = 5 * time.Minute

	// heartbeat is three times node-problem-detector's own (--k8s-exporter-heartbeat-period, 5 min).
	heartbeat = 15 * time.Minute
)

// The permanent conditions of node-problem-detector's own configuration that
// call for something to be done about the node.
var problems = []corev1.NodeConditionType{
	readonlyFilesystem, "KernelDeadlock", "ContainerRuntimeUnhealthy", "KubeletUnhealthy", "FrequentKubeletRestart", "FrequentContainerdRestart",
}

func stale(c corev1.NodeCondition, now time.Time) bool {
	return !c.LastHeartbeatTime.IsZero() && now.Sub(c.LastHeartbeatTime.Time) > heartbeat
}
