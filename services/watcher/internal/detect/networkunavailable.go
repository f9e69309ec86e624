package detect

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// networkUnavailable finds nodes whose network is not set up.
var networkUnavailable = Detector[*corev1.Node]{
	Name: "network_unavailable",
	Row:  "N4",
	Type: heal.NodeFailure,

	Reasons: []string{string(corev1.NodeNetworkUnavailable)},
	Hold:    "5 min",
	Excused: conditionExcused,

	Find: func(node *corev1.Node, _ Facts) []Finding {
		for i, c := range node.Status.Conditions {
			if c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue {
				return []Finding{conditionFinding(node, i, networkHold)}
			}
		}
		return nil
	},
	Excuse: conditionExcuse,
	Well:   conditionOver,
	Clear:  func(t Thresholds) time.Duration { return t.NodeCheckInterval },
}

const networkHold = 5 * time.Minute
