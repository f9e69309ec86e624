package detect

import (
	"testing"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
)

func TestAutoscalerThatNobodyLooksAtIsFound(t *testing.T) {
	generation := func(is, observed int64) *autoscalingv2.HorizontalPodAutoscaler {
		a := autoscaler(1, 1, 9, able, active)
		a.Generation, a.Status.ObservedGeneration = is, &observed
		return a
	}
	for name, tt := range map[string]struct {
		of   *autoscalingv2.HorizontalPodAutoscaler
		age  time.Duration
		want bool
	}{
		"just made":                                {autoscaler(1, 0, 9), time.Minute, false},
		"five minutes old, and without a word":     {autoscaler(1, 0, 9), 5 * time.Minute, true},
		"it has its conditions":                    {autoscaler(1, 1, 9, able, active), time.Hour, false},
		"its generations are not counted":          {generation(2, 0), time.Hour, false},
		"its last change was seen":                 {generation(2, 2), time.Hour, false},
		"its last change was not":                  {generation(3, 2), time.Hour, true},
		"it has no metrics, which was looked into": {autoscaler(1, 1, 9, able, noValue), time.Hour, false},
	} {
		found := autoscalerUnobserved.Find(tt.of, Facts{Now: noon.Add(tt.age)})
		if got := len(found) == 1 && found[0].Reason == generationNotObserved; got != tt.want || len(found) > 1 {
			t.Errorf("%s: found %+v, want found %v", name, found, tt.want)
		}
	}
}
