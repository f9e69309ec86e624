package detect

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// statefulSetStalled finds roll-outs of stateful sets that wait for a pod that
// does not become ready. Kubernetes itself knows no deadline for them, and
// does not go back: it waits for that pod even when the template is put right.
var statefulSetStalled = Detector[*appsv1.StatefulSet]{
	Name: "statefulset_stalled",
	Row:  "W6",
	Type: heal.DeploymentFailure,

	Reasons: []string{rolloutStalled},
	Hold:    "15 min since it last came further",
	Excused: statefulSetExcused + "; pods are replaced on deletion only (OnDelete); it has come as far as its partition allows; " +
		"it began, was scaled or came further in the last minute",

	Find:   findStatefulStalled,
	Excuse: statefulSettling,
	Well: func(s *appsv1.StatefulSet, _ string) bool {
		return !rolling(s) || s.Status.ReadyReplicas >= desiredStateful(s)
	},
}

const (
	rolloutStalled = "RolloutStalled"
	// stalledHold is long: a database may have much to read before it is ready.
	stalledHold = 15 * time.Minute
)

func findStatefulStalled(s *appsv1.StatefulSet, _ Facts) []Finding {
	if !rolling(s) || s.Status.ReadyReplicas >= desiredStateful(s) {
		return nil
	}
	return []Finding{statefulSetFinding(s, rolloutStalled, "made no progress with its roll-out", stalledHold)}
}

func statefulSettling(s *appsv1.StatefulSet, facts Facts) Excuse {
	if e := statefulSetExcuse(s, facts); e != None {
		return e
	}
	if facts.settling() {
		return Masked
	}
	return None
}
