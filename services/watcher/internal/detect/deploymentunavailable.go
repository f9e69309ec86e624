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
	Hold:    "2 × `pod_check_interval`; 5 min while nodes are drained or lost",
	Excused: deploymentExcused + "; its roll-out is younger than 1 min, or 5 min when it starts from nothing (created, scaled from zero, strategy Recreate); " +
		"the roll-out has stalled (deployment_stalled); replicas are refused (replicas_refused)",

	Find:   findUnavailable,
	Excuse: unavailableExcuse,
	Well:   func(d *appsv1.Deployment, _ string) bool { return d.Status.AvailableReplicas > 0 },
}

const (
	minimumReplicasUnavailable = "MinimumReplicasUnavailable"
	youngRollout               = time.Minute
	// firstStart is how long a deployment may take to serve for the first time
	// that nothing was there to serve before: large images and slow programs.
	firstStart = 5 * time.Minute
	// moveHold is how long a deployment may be without a replica while drains
	// make its pods start elsewhere, which one with a single pod always is.
	moveHold = 5 * time.Minute
)

func findUnavailable(d *appsv1.Deployment, facts Facts) []Finding {
	i, c := deploymentCondition(d, appsv1.DeploymentAvailable)
	if c == nil || c.Status != corev1.ConditionFalse || c.Reason != minimumReplicasUnavailable || d.Status.AvailableReplicas > 0 {
		return nil
	}
	_, stalled := stalledRollout(d)
	_, refused := refusedCreation(d)
	if stalled || refused {
		return nil
	}
	hold := 2 * facts.PodCheckInterval
	if facts.Draining {
		hold = max(hold, moveHold)
	}
	return []Finding{deploymentFinding(d, i, "serves nothing", hold)}
}

func unavailableExcuse(d *appsv1.Deployment, facts Facts) Excuse {
	if e := deploymentExcuse(d, facts); e != None {
		return e
	}
	rolled, scaled := facts.Now.Sub(facts.RolloutSince), facts.Now.Sub(facts.ScaledSince)
	switch {
	case rolled < youngRollout,
		facts.FromZero && scaled < firstStart,
		d.Spec.Strategy.Type == appsv1.RecreateDeploymentStrategyType && rolled < firstStart,
		d.Annotations[RevisionAnnotation] == "1" && facts.Now.Sub(d.CreationTimestamp.Time) < firstStart:
		return Masked
	}
	return None
}
