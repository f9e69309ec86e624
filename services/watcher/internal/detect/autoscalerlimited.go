package detect

import (
	"fmt"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// autoscalerLimited finds autoscalers that would add replicas and may not: all
// that they may have run already.
var autoscalerLimited = Detector[*autoscalingv2.HorizontalPodAutoscaler]{
	Name: "autoscaler_limited",
	Row:  "W10",
	Type: heal.ResourceExhaustion,

	Reasons: []string{tooManyReplicas},
	Hold:    "15 min",
	Excused: autoscalerExcused + "; it may not scale at all (minReplicas = maxReplicas); it has no metrics (autoscaler_blind)",

	Find:   findLimited,
	Excuse: autoscalerExcuse,
}

const tooManyReplicas = "TooManyReplicas"

func findLimited(a *autoscalingv2.HorizontalPodAutoscaler, _ Facts) []Finding {
	i, c := autoscalerCondition(a, autoscalingv2.ScalingLimited)
	if c == nil || c.Status != corev1.ConditionTrue || c.Reason != tooManyReplicas ||
		a.Status.CurrentReplicas < a.Spec.MaxReplicas || // it has some left to add
		a.Spec.MinReplicas != nil && *a.Spec.MinReplicas >= a.Spec.MaxReplicas {
		return nil
	}
	if _, _, blind := blindness(a); blind {
		return nil
	}
	f := autoscalerFinding(a, i, tooManyReplicas, fmt.Sprintf("is at its limit of %s and wants more", count(int(a.Spec.MaxReplicas), "replica")), 15*time.Minute)
	f.Evidence = append(f.Evidence,
		heal.Evidence{Path: "status.currentReplicas", Value: f.Metadata["current"]},
		heal.Evidence{Path: "spec.maxReplicas", Value: f.Metadata["max"]})
	return []Finding{f}
}
