package detect

import (
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// deploymentDegraded finds deployments that lack some of their replicas
// although nothing is being rolled out. What ails those is told of the pods;
// this is what it does to the whole.
var deploymentDegraded = Detector[*appsv1.Deployment]{
	Name: "deployment_degraded",
	Row:  "W3",
	Type: heal.DeploymentFailure,

	Reasons: []string{replicasMissing},
	Hold:    "15 min",
	Excused: deploymentExcused + "; it was rolled out or scaled in the last minute; up to a quarter is missing while nodes are drained or lost; " +
		"none is available (deployment_unavailable); the roll-out has stalled (deployment_stalled); replicas are refused (replicas_refused)",

	Find:   findDegraded,
	Excuse: degradedExcuse,
	Well:   func(d *appsv1.Deployment, _ string) bool { return d.Status.AvailableReplicas >= desired(d) },
}

const (
	replicasMissing = "ReplicasMissing"
	degradedHold    = 15 * time.Minute

	// settling is how long after a change of a workload nothing is counted
	// yet: so a hold begins with the last change.
	settling = time.Minute
)

func findDegraded(d *appsv1.Deployment, _ Facts) []Finding {
	want, s := desired(d), &d.Status
	_, stalled := stalledRollout(d)
	_, refused := refusedCreation(d)
	underWay := s.UpdatedReplicas < want || s.Replicas > s.UpdatedReplicas
	if s.AvailableReplicas == 0 || s.AvailableReplicas >= want || underWay || stalled || refused {
		return nil
	}
	return []Finding{lacks(d, s.AvailableReplicas, want)}
}

// lacks is what is found of a deployment of which not all is available.
func lacks(d *appsv1.Deployment, available, want int32) Finding {
	return Finding{
		Reason: replicasMissing, Hold: degradedHold,
		Description: fmt.Sprintf("deployment %s lacks replicas: %d of %s available", d.Name, available, count(int(want), "replica")),
		Evidence: []heal.Evidence{
			{Path: "status.availableReplicas", Value: fmt.Sprint(available)},
			{Path: "spec.replicas", Value: fmt.Sprint(want)},
		},
		Metadata: map[string]string{"available": fmt.Sprint(available), "desired": fmt.Sprint(want)},
	}
}

func degradedExcuse(d *appsv1.Deployment, facts Facts) Excuse {
	if e := deploymentExcuse(d, facts); e != None {
		return e
	}
	if facts.settling() || facts.drains(desired(d)-d.Status.AvailableReplicas, desired(d)) {
		return Masked
	}
	return None
}

// settling reports whether a workload has only just been changed.
func (f Facts) settling() bool {
	return f.Now.Sub(f.RolloutSince) < settling || f.Now.Sub(f.ScaledSince) < settling || f.Now.Sub(f.ProgressSince) < settling
}

// drains reports whether so many missing are what a drain does: pods are
// evicted node by node, and for as long as nodes go, some are on their way.
// A quarter is what Kubernetes lets a roll-out take away at once.
func (f Facts) drains(lacking, of int32) bool {
	return f.Draining && lacking > 0 && lacking <= max(1, of/4)
}
