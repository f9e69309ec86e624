package detect

import (
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// autoscalerBlind finds autoscalers that cannot tell how many replicas are
// needed, or cannot set their number.
var autoscalerBlind = Detector[*autoscalingv2.HorizontalPodAutoscaler]{
	Name: "autoscaler_blind",
	Row:  "W11",
	Type: heal.DeploymentFailure,

	Reasons: slices.Concat(noMetrics, noScale),
	Hold:    "10 min",
	Excused: autoscalerExcused,

	Find:   findBlind,
	Excuse: autoscalerExcuse,
}

var (
	noMetrics = []string{
		"FailedGetResourceMetric", "FailedGetContainerResourceMetric", "FailedGetPodsMetric", "FailedGetObjectMetric", "FailedGetExternalMetric",
		"InvalidMetricSourceType", "InvalidSelector", "AmbiguousSelector",
	}
	noScale = []string{"FailedGetScale", "FailedUpdateScale"}
)

func findBlind(a *autoscalingv2.HorizontalPodAutoscaler, _ Facts) []Finding {
	i, reason, blind := blindness(a)
	if !blind {
		return nil
	}
	what := "cannot tell how many replicas are needed"
	if slices.Contains(noScale, reason) {
		what = "cannot scale"
	}
	return []Finding{autoscalerFinding(a, i, reason, what, 10*time.Minute)}
}

// blindness is why an autoscaler cannot do its work. What it says of its scale
// counts more: without that it asks for no metrics.
func blindness(a *autoscalingv2.HorizontalPodAutoscaler) (condition int, reason string, blind bool) {
	for _, b := range []struct {
		of      autoscalingv2.HorizontalPodAutoscalerConditionType
		reasons []string
	}{{autoscalingv2.AbleToScale, noScale}, {autoscalingv2.ScalingActive, noMetrics}} {
		if i, c := autoscalerCondition(a, b.of); c != nil && c.Status == corev1.ConditionFalse && slices.Contains(b.reasons, c.Reason) {
			return i, c.Reason, true
		}
	}
	return -1, "", false
}
