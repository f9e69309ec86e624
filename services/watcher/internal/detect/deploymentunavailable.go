package detect

import (
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// deploymentUnavailable finds deployments of which not one replica is
// available. A stalled roll-out that has come so far is told as that.
var deploymentUnavailable = Detector[*appsv1.Deployment]{
	Name: "deployment_unavailable",
	Row:  "W4",
	Type: heal.DeploymentFailure,

	Reasons: []string{minimumReplicasUnavailable},
	Hold:    "2 × `pod_check_interval`",
	Excused: deploymentExcused + "; its roll-out is younger than 1 min; the roll-out has stalled (deployment_stalled)",

	Find:   findUnavailable,
	Excuse: unavailableExcuse,
	Well:   func(d *appsv1.Deployment, _ string) bool { return d.Status.AvailableReplicas > 0 },
}

const (
	minimumReplicasUnavailable = "MinimumReplicasUnavailable"
	youngRollout               = time.Minute
)

func findUnavailable(d *appsv1.Deployment, facts Facts) []Finding {
	i, c := deploymentCondition(d, appsv1.DeploymentAvailable)
	if c == nil || c.Status != corev1.ConditionFalse || c.Reason != minimumReplicasUnavailable || d.Status.AvailableReplicas > 0 {
		return nil
	}
	if _, stalled := stalledRollout(d); stalled {
		return nil
	}
	return []Finding{deploymentFinding(d, i, "serves nothing", 2*facts.PodCheckInterval)}
}

func unavailableExcuse(d *appsv1.Deployment, facts Facts) Excuse {
	if e := deploymentExcuse(d, facts); e != None {
		return e
	}
	if facts.Now.Sub(facts.RolloutSince) < youngRollout {
		return Masked
	}
	return None
}
