package detect

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// nodeFlapping finds nodes that become ready and cease to be again and again,
// as we saw it ourselves: a condition's own time tells of its last change only.
var nodeFlapping = Detector[*corev1.Node]{
	Name: "node_flapping",
	Row:  "N7",
	Type: heal.NodeFailure,

	Reasons: []string{"NodeFlapping"},
	Hold:    "none, from the third change of Ready in 15 min",
	Excused: conditionExcused + "; changes while " + tendedExcused + ", and the first, do not count",

	Find: func(node *corev1.Node, facts Facts) []Finding {
		i, ready := ReadyCondition(node)
		if ready == nil || facts.ReadyChanges <= fewChanges {
			return nil
		}
		return []Finding{{
			Reason:      "NodeFlapping",
			Description: fmt.Sprintf("node %s became ready or ceased to be %s in the last %s", node.Name, times(facts.ReadyChanges), FlapWindow),
			Evidence: []heal.Evidence{
				{Path: fmt.Sprintf("status.conditions[%d].status", i), Value: string(ready.Status)},
				{Path: fmt.Sprintf("status.conditions[%d].lastTransitionTime", i), Value: ready.LastTransitionTime.UTC().Format(time.RFC3339)},
			},
			Metadata: map[string]string{"ready_changes_in_window": strconv.Itoa(facts.ReadyChanges)},
		}}
	},
	Excuse: conditionExcuse,
	Clear:  func(t Thresholds) time.Duration { return t.NodeCheckInterval },
}

const (
	// FlapWindow is the window in which changes of a node's readiness are counted.
	FlapWindow = 15 * time.Minute
	fewChanges = 2
)
