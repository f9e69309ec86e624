package detect

import (
	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// daemonSetStalled finds roll-outs of daemon sets that do not go on because
// pods are not available.
var daemonSetStalled = Detector[*appsv1.DaemonSet]{
	Name: "daemonset_stalled",
	Row:  "W7",
	Type: heal.DeploymentFailure,

	Reasons: []string{rolloutStalled},
	Hold:    "15 min since it last came further; 5 min if none is available",
	Excused: daemonSetExcused + "; pods are replaced on deletion only (OnDelete); it began or came further in the last minute",

	Find: func(d *appsv1.DaemonSet, _ Facts) []Finding {
		if !rollingDaemon(d) || d.Status.NumberUnavailable <= 0 {
			return nil
		}
		return []Finding{daemonSetFinding(d, rolloutStalled, "made no progress with its roll-out", unavailableHold(d))}
	},
	Excuse: daemonSettling,
	Well:   func(d *appsv1.DaemonSet, _ string) bool { return !rollingDaemon(d) || d.Status.NumberUnavailable <= 0 },
}

func daemonSettling(d *appsv1.DaemonSet, facts Facts) Excuse {
	if e := daemonSetExcuse(d, d.Status.NumberUnavailable, facts); e != None {
		return e
	}
	if facts.settling() {
		return Masked
	}
	return None
}
