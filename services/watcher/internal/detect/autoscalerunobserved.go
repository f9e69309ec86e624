package detect

import (
	"fmt"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"

	"github.com/selfheal/selfheal/pkg/heal"
)

// autoscalerUnobserved finds autoscalers that nobody looks at: their
// controller gives each its conditions at first sight, every 15 s anew.
var autoscalerUnobserved = Detector[*autoscalingv2.HorizontalPodAutoscaler]{
	Name: "autoscaler_unobserved",
	Row:  "W5",
	Type: heal.DeploymentFailure,

	Reasons: []string{generationNotObserved},
	Hold:    "1 min, from 5 min after it was made",
	Excused: autoscalerExcused,

	Find: func(a *autoscalingv2.HorizontalPodAutoscaler, facts Facts) []Finding {
		observed := int64(0)
		if a.Status.ObservedGeneration != nil {
			observed = *a.Status.ObservedGeneration
		}
		if facts.Now.Sub(a.CreationTimestamp.Time) < unobservedHold {
			return nil
		}
		if len(a.Status.Conditions) > 0 && (observed == 0 || observed >= a.Generation) { // not every version of it counts generations
			return nil
		}
		return []Finding{{
			Reason: generationNotObserved, Hold: time.Minute,
			Description: fmt.Sprintf("the latest change of autoscaler %s is not taken in: its controller does not look at it", a.Name),
			Evidence: []heal.Evidence{
				{Path: "status.observedGeneration", Value: fmt.Sprint(observed)},
				{Path: "metadata.generation", Value: fmt.Sprint(a.Generation)},
			},
			Metadata: map[string]string{"generation": fmt.Sprint(a.Generation), "observed_generation": fmt.Sprint(observed)},
		}}
	},
	Excuse: autoscalerExcuse,
}
