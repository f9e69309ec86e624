package detect

import (
	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// statefulSetDegraded finds stateful sets that lack some of their replicas
// although nothing is being rolled out.
var statefulSetDegraded = Detector[*appsv1.StatefulSet]{
	Name: "statefulset_degraded",
	Row:  "W3",
	Type: heal.DeploymentFailure,

	Reasons: []string{replicasMissing},
	Hold:    "15 min",
	Excused: statefulSetExcused + "; it was rolled out, scaled or came further in the last minute; up to a quarter is missing while nodes are drained or lost; " +
		"none is ready (statefulset_unavailable); a roll-out is under way (statefulset_stalled)",

	Find: func(s *appsv1.StatefulSet, _ Facts) []Finding {
		if s.Status.ReadyReplicas == 0 || s.Status.AvailableReplicas >= desiredStateful(s) || rolling(s) {
			return nil
		}
		return []Finding{statefulSetFinding(s, replicasMissing, "lacks replicas", degradedHold)}
	},
	Excuse: func(s *appsv1.StatefulSet, facts Facts) Excuse {
		if e := statefulSettling(s, facts); e != None {
			return e
		}
		if facts.drains(desiredStateful(s)-s.Status.AvailableReplicas, desiredStateful(s)) {
			return Masked
		}
		return None
	},
	Well: func(s *appsv1.StatefulSet, _ string) bool { return s.Status.AvailableReplicas >= desiredStateful(s) },
}
