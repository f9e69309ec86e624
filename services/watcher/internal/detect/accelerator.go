package detect

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// accelerator finds nodes whose GPUs or other accelerators fail, as the agents
// of their makers report it. Those agents' own controllers repair the node;
// the metadata says whose, and nobody is to get in their way.
var accelerator = Detector[*corev1.Node]{
	Name: "accelerator",
	Row:  "N6",
	Type: heal.NodeFailure,

	Reasons: []string{acceleratorUnhealthy},
	Hold:    "10 min",
	Excused: conditionExcused,

	Find: func(node *corev1.Node, _ Facts) []Finding {
		var found []Finding
		for i, c := range node.Status.Conditions {
			by, bad := acceleratorAgent(c.Type)
			if by == "" || c.Status != bad {
				continue
			}
			f := conditionFinding(node, i, acceleratorHold)
			f.Reason = acceleratorUnhealthy
			f.Description = strings.Replace(f.Description, " has ", " has an accelerator that fails: ", 1)
			f.Metadata["repaired_by"] = by
			found = append(found, f)
		}
		return found
	},
	Excuse: conditionExcuse,
	Well:   acceleratorWell,
	Clear:  func(t Thresholds) time.Duration { return t.NodeCheckInterval },
}

const (
	acceleratorUnhealthy = "AcceleratorUnhealthy"
	acceleratorHold      = 10 * time.Minute
)

// acceleratorAgent is who reports, and repairs, a condition of accelerators,
// and the status that says that something is wrong. EKS' node monitoring agent
// has one condition for all. NVSentinel has one for each check: those of DCGM
// are called GpuMemWatch, GpuNvlinkWatch and so on, those of the system's log
// SysLogsXIDError and so on.
func acceleratorAgent(t corev1.NodeConditionType) (agent string, bad corev1.ConditionStatus) {
	name := string(t)
	switch {
	case name == "AcceleratedHardwareReady":
		return "eks", corev1.ConditionFalse
	case strings.HasPrefix(name, "SysLogs"),
		strings.HasPrefix(name, "Gpu") && (strings.HasSuffix(name, "Watch") || strings.HasSuffix(name, "Failure")):
		return "nvsentinel", corev1.ConditionTrue
	}
	return "", ""
}

// acceleratorWell reports whether the agent says that it is over, or does not
// report the condition any more.
func acceleratorWell(node *corev1.Node, part string) bool {
	for i := range node.Status.Conditions {
		if c := &node.Status.Conditions[i]; string(c.Type) == part {
			_, bad := acceleratorAgent(c.Type)
			return c.Status != bad && c.Status != corev1.ConditionUnknown
		}
	}
	return true
}
