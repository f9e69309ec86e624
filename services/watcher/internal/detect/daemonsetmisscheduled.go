package detect

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// daemonSetMisscheduled finds daemon sets with pods on nodes where they should
// not be: a taint or label was changed, and nothing takes the pods away.
var daemonSetMisscheduled = Detector[*appsv1.DaemonSet]{
	Name: "daemonset_misscheduled",
	Row:  "W7",
	Type: heal.DeploymentFailure,

	Reasons: []string{"PodsMisscheduled"},
	Hold:    "15 min",
	Excused: daemonSetExcused,

	Find: func(d *appsv1.DaemonSet, _ Facts) []Finding {
		n := d.Status.NumberMisscheduled
		if n <= 0 {
			return nil
		}
		return []Finding{daemonSetFinding(d, "PodsMisscheduled", fmt.Sprintf("has %s where it should have none", count(int(n), "pod")), daemonHold)}
	},
	Excuse: func(d *appsv1.DaemonSet, facts Facts) Excuse {
		return daemonSetExcuse(d, d.Status.NumberMisscheduled, facts)
	},
}
