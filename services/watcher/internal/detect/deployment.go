package detect

import (
	"fmt"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// RevisionAnnotation is where Kubernetes counts a deployment's roll-outs.
const RevisionAnnotation = "deployment.kubernetes.io/revision"

const deploymentExcused = "the deployment is deleted, paused or scaled to zero; its status is of an older generation"

// deploymentExcuse is the event hygiene of deployments: one that stands still
// on purpose does not fail, and a status of yesterday's spec says nothing.
func deploymentExcuse(d *appsv1.Deployment, _ Facts) Excuse {
	switch {
	case d.DeletionTimestamp != nil, d.Spec.Paused, desired(d) == 0:
		return Leaving
	case d.Status.ObservedGeneration < d.Generation:
		return Masked
	}
	return None
}

// desired is how many replicas are asked for. (The API's default is one.)
func desired(d *appsv1.Deployment) int32 {
	if d.Spec.Replicas == nil {
		return 1
	}
	return *d.Spec.Replicas
}

// deploymentCondition finds a condition, and its index for evidence.
func deploymentCondition(d *appsv1.Deployment, t appsv1.DeploymentConditionType) (int, *appsv1.DeploymentCondition) {
	for i := range d.Status.Conditions {
		if d.Status.Conditions[i].Type == t {
			return i, &d.Status.Conditions[i]
		}
	}
	return -1, nil
}

// deploymentFinding is what is found of a condition with the given reason.
func deploymentFinding(d *appsv1.Deployment, i int, what string, hold time.Duration) Finding {
	c := &d.Status.Conditions[i]
	path := fmt.Sprintf("status.conditions[%d]", i)
	f := Finding{
		Reason: c.Reason, Hold: hold,
		Evidence: []heal.Evidence{
			{Path: path + ".status", Value: string(c.Status)},
			{Path: path + ".reason", Value: c.Reason},
		},
		Metadata: map[string]string{
			"available": strconv.Itoa(int(d.Status.AvailableReplicas)),
			"desired":   strconv.Itoa(int(desired(d))),
			"updated":   strconv.Itoa(int(d.Status.UpdatedReplicas)),
		},
	}
	if c.Message != "" {
		f.Evidence = append(f.Evidence, heal.Evidence{Path: path + ".message", Value: c.Message})
	}
	f.Evidence = append(f.Evidence,
		heal.Evidence{Path: "status.availableReplicas", Value: f.Metadata["available"]},
		heal.Evidence{Path: "status.updatedReplicas", Value: f.Metadata["updated"]})
	f.Description = fmt.Sprintf("deployment %s %s: %s of %s available, %s of the latest revision",
		d.Name, what, f.Metadata["available"], count(int(desired(d)), "replica"), f.Metadata["updated"])
	if revision := d.Annotations[RevisionAnnotation]; revision != "" {
		f.Metadata["revision"] = revision
	}
	return f
}
