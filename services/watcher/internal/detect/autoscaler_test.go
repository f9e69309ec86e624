package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func autoscaler(lowest, current, highest int32, conditions ...autoscalingv2.HorizontalPodAutoscalerCondition) *autoscalingv2.HorizontalPodAutoscaler {
	return &autoscalingv2.HorizontalPodAutoscaler{
		ObjectMeta: metav1.ObjectMeta{Name: "web", CreationTimestamp: metav1.Time{Time: noon}},
		Spec: autoscalingv2.HorizontalPodAutoscalerSpec{
			ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{Kind: "Deployment", Name: "web"},
			MinReplicas:    &lowest, MaxReplicas: highest,
		},
		Status: autoscalingv2.HorizontalPodAutoscalerStatus{CurrentReplicas: current, Conditions: conditions},
	}
}

func scaling(of autoscalingv2.HorizontalPodAutoscalerConditionType, status corev1.ConditionStatus, reason string) autoscalingv2.HorizontalPodAutoscalerCondition {
	return autoscalingv2.HorizontalPodAutoscalerCondition{Type: of, Status: status, Reason: reason, Message: "so"}
}

var (
	able    = scaling(autoscalingv2.AbleToScale, corev1.ConditionTrue, "SucceededGetScale")
	active  = scaling(autoscalingv2.ScalingActive, corev1.ConditionTrue, "ValidMetricFound")
	limited = scaling(autoscalingv2.ScalingLimited, corev1.ConditionTrue, "TooManyReplicas")
	noValue = scaling(autoscalingv2.ScalingActive, corev1.ConditionFalse, "FailedGetResourceMetric")
	unable  = scaling(autoscalingv2.AbleToScale, corev1.ConditionFalse, "FailedGetScale")
	off     = scaling(autoscalingv2.ScalingActive, corev1.ConditionFalse, "ScalingDisabled")
)

func TestAutoscalerAtItsLimitOrWithoutMetricsIsFound(t *testing.T) {
	condition := func(i, status, reason string) []heal.Evidence {
		return []heal.Evidence{
			{Path: "status.conditions[" + i + "].status", Value: status},
			{Path: "status.conditions[" + i + "].reason", Value: reason},
			{Path: "status.conditions[" + i + "].message", Value: "so"},
		}
	}
	metadata := map[string]string{"scale_target_kind": "Deployment", "scale_target_name": "web", "current": "9", "max": "9"}
	atLimit := Finding{
		Reason: "TooManyReplicas", Hold: 15 * time.Minute,
		Description: "autoscaler web of Deployment web is at its limit of 9 replicas and wants more: so",
		Evidence: append(condition("2", "True", "TooManyReplicas"),
			heal.Evidence{Path: "status.currentReplicas", Value: "9"}, heal.Evidence{Path: "spec.maxReplicas", Value: "9"}),
		Metadata: metadata,
	}
	blind := Finding{
		Reason: "FailedGetResourceMetric", Hold: 10 * time.Minute,
		Description: "autoscaler web of Deployment web cannot tell how many replicas are needed: so",
		Evidence:    condition("1", "False", "FailedGetResourceMetric"), Metadata: metadata,
	}
	cannot := Finding{
		Reason: "FailedGetScale", Hold: 10 * time.Minute,
		Description: "autoscaler web of Deployment web cannot scale: so",
		Evidence:    condition("0", "False", "FailedGetScale"), Metadata: metadata,
	}
	few := scaling(autoscalingv2.ScalingLimited, corev1.ConditionTrue, "TooFewReplicas")
	within := scaling(autoscalingv2.ScalingLimited, corev1.ConditionFalse, "DesiredWithinRange")
	backsOff := scaling(autoscalingv2.AbleToScale, corev1.ConditionFalse, "BackoffBoth")
	tests := []struct {
		name       string
		autoscaler *autoscalingv2.HorizontalPodAutoscaler
		want       []Finding
	}{
		{"new", autoscaler(1, 0, 9), nil},
		{"all is well", autoscaler(1, 5, 9, able, active, within), nil},
		{"at its limit", autoscaler(1, 9, 9, able, active, limited), []Finding{atLimit}},
		{"at its limit, and has enough", autoscaler(1, 9, 9, able, active, within), nil},
		{"on its way to its limit", autoscaler(1, 8, 9, able, active, limited), nil},
		{"at its lower limit", autoscaler(1, 1, 9, able, active, few), nil},
		{"limits that are one number on purpose", autoscaler(9, 9, 9, able, active, limited), nil},
		{"no metrics", autoscaler(1, 9, 9, able, noValue), []Finding{blind}},
		{"no metrics, and an old limit", autoscaler(1, 9, 9, able, noValue, limited), []Finding{blind}},
		{"no target, and an old answer about metrics", autoscaler(1, 9, 9, unable, noValue), []Finding{cannot}},
		{"it rests between two scalings", autoscaler(1, 5, 9, backsOff, active), nil},
		{"switched off", autoscaler(1, 0, 9, able, off), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []Finding
			for _, d := range Autoscalers {
				got = append(got, d.Find(tt.autoscaler, Facts{Now: noon})...)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAutoscalerThatIsSwitchedOffOrDeletedIsExcused(t *testing.T) {
	gone := autoscaler(1, 9, 9, able, noValue)
	gone.DeletionTimestamp = &metav1.Time{Time: noon}
	for name, tt := range map[string]struct {
		autoscaler *autoscalingv2.HorizontalPodAutoscaler
		want       Excuse
	}{
		"any other is not": {autoscaler(1, 9, 9, able, noValue), None},
		"new":              {autoscaler(1, 9, 9), None},
		"switched off":     {autoscaler(1, 0, 9, able, off), Leaving},
		"deleted":          {gone, Leaving},
	} {
		for _, d := range Autoscalers {
			if got := d.Excuse(tt.autoscaler, Facts{Now: noon}); got != tt.want {
				t.Errorf("%s: %s: excuse %v, want %v", name, d.Name, got, tt.want)
			}
		}
	}
}
