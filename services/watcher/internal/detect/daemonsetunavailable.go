package detect

import (
	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// daemonSetUnavailable finds daemon sets that lack pods on nodes that are
// well, although nothing is being rolled out.
var daemonSetUnavailable = Detector[*appsv1.DaemonSet]{
	Name: "daemonset_unavailable",
	Row:  "W7",
	Type: heal.DeploymentFailure,

	Reasons: []string{"PodsUnavailable"},
	Hold:    "15 min; 5 min if none is available",
	Excused: daemonSetExcused + "; it was rolled out in the last minute; a roll-out is under way (daemonset_stalled)",

	Find: func(d *appsv1.DaemonSet, _ Facts) []Finding {
		if rollingDaemon(d) || d.Status.NumberUnavailable <= 0 {
			return nil
		}
		return []Finding{daemonSetFinding(d, "PodsUnavailable", "lacks pods", unavailableHold(d))}
	},
	Excuse: daemonSettling,
	Well:   func(d *appsv1.DaemonSet, _ string) bool { return d.Status.NumberUnavailable <= 0 },
}
