package detect

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// nodePressure finds nodes that run short of memory, disk or process ids. The
// kubelet answers that by evicting pods; if it lasts, that does not help.
var nodePressure = Detector[*corev1.Node]{
	Name: "node_pressure",
	Row:  "N3",
	Type: heal.ResourceExhaustion,

	Reasons: names(pressures),
	Hold:    "10 min",
	Excused: conditionExcused,

	Find: func(node *corev1.Node, _ Facts) []Finding {
		var found []Finding
		for i, c := range node.Status.Conditions {
			if c.Status == corev1.ConditionTrue && slices.Contains(pressures, c.Type) {
				found = append(found, conditionFinding(node, i, pressureHold))
			}
		}
		return found
	},
	Excuse: conditionExcuse,
	Well:   conditionOver,
	Clear:  func(t Thresholds) time.Duration { return t.NodeCheckInterval },
}

const pressureHold = 10 * time.Minute

var pressures = []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure}

func names(types []corev1.NodeConditionType) []string {
	var all []string
	for _, t := range types {
		all = append(all, string(t))
	}
	return all
}
