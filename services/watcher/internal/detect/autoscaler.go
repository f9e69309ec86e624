package detect

import (
	"fmt"
	"strconv"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

const autoscalerExcused = "the autoscaler is deleted; scaling is switched off (its target has zero replicas)"

// autoscalerExcuse is the event hygiene of autoscalers.
func autoscalerExcuse(a *autoscalingv2.HorizontalPodAutoscaler, _ Facts) Excuse {
	_, c := autoscalerCondition(a, autoscalingv2.ScalingActive)
	if a.DeletionTimestamp != nil || c != nil && c.Status == corev1.ConditionFalse && c.Reason == "ScalingDisabled" {
		return Leaving
	}
	return None
}

// autoscalerCondition finds a condition, and its index for evidence.
func autoscalerCondition(a *autoscalingv2.HorizontalPodAutoscaler, t autoscalingv2.HorizontalPodAutoscalerConditionType) (int, *autoscalingv2.HorizontalPodAutoscalerCondition) {
	for i := range a.Status.Conditions {
		if a.Status.Conditions[i].Type == t {
			return i, &a.Status.Conditions[i]
		}
	}
	return -1, nil
}

// autoscalerFinding is what is found of a condition.
func autoscalerFinding(a *autoscalingv2.HorizontalPodAutoscaler, i int, reason, what string, hold time.Duration) Finding {
	c, target := &a.Status.Conditions[i], a.Spec.ScaleTargetRef
	path := fmt.Sprintf("status.conditions[%d]", i)
	f := Finding{
		Reason: reason, Hold: hold,
		Description: fmt.Sprintf("autoscaler %s of %s %s %s", a.Name, target.Kind, target.Name, what),
		Evidence: []heal.Evidence{
			{Path: path + ".status", Value: string(c.Status)},
			{Path: path + ".reason", Value: c.Reason},
		},
		Metadata: map[string]string{
			"scale_target_kind": target.Kind, "scale_target_name": target.Name,
			"current": strconv.Itoa(int(a.Status.CurrentReplicas)), "max": strconv.Itoa(int(a.Spec.MaxReplicas)),
		},
	}
	if c.Message != "" {
		f.Description += ": " + c.Message
		f.Evidence = append(f.Evidence, heal.Evidence{Path: path + ".message", Value: c.Message})
	}
	return f
}
