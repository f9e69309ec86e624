package detect

import (
	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// statefulSetUnavailable finds stateful sets of which not one replica is ready.
var statefulSetUnavailable = Detector[*appsv1.StatefulSet]{
	Name: "statefulset_unavailable",
	Row:  "W6",
	Type: heal.DeploymentFailure,

	Reasons: []string{noReplicasReady},
	Hold:    "5 min",
	Excused: statefulSetExcused + "; it was rolled out, scaled or came further in the last minute; a roll-out is under way (statefulset_stalled)",

	Find: func(s *appsv1.StatefulSet, _ Facts) []Finding {
		if s.Status.ReadyReplicas > 0 || rolling(s) {
			return nil
		}
		return []Finding{statefulSetFinding(s, noReplicasReady, "serves nothing", statefulNoneHold)}
	},
	Excuse: statefulSettling,
	Well:   func(s *appsv1.StatefulSet, _ string) bool { return s.Status.ReadyReplicas > 0 },
}

const noReplicasReady = "NoReplicasReady"
