package detect

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// deploymentStalled finds roll-outs that made no progress for as long as the
// deployment itself allows (progressDeadlineSeconds, 600 unless set).
var deploymentStalled = Detector[*appsv1.Deployment]{
	Name: "deployment_stalled",
	Row:  "W1",
	Type: heal.DeploymentFailure,

	Reasons: []string{progressDeadlineExceeded},
	Hold:    "none (the deployment's own progressDeadlineSeconds)",
	Excused: deploymentExcused + "; replicas are refused (replicas_refused)",

	Find: func(d *appsv1.Deployment, _ Facts) []Finding {
		i, stalled := stalledRollout(d)
		if _, refused := refusedCreation(d); !stalled || refused {
			return nil
		}
		return []Finding{deploymentFinding(d, i, "made no progress with its roll-out", 0)}
	},
	Excuse: deploymentExcuse,
	Well: func(d *appsv1.Deployment, _ string) bool {
		_, stalled := stalledRollout(d)
		return !stalled
	},
}

const progressDeadlineExceeded = "ProgressDeadlineExceeded"

func stalledRollout(d *appsv1.Deployment) (int, bool) {
	i, c := deploymentCondition(d, appsv1.DeploymentProgressing)
	return i, c != nil && c.Status == corev1.ConditionFalse && c.Reason == progressDeadlineExceeded
}
