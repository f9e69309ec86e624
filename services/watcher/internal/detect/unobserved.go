package detect

import (
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Workloads whose latest change nobody has taken in: the controller that
// should is dead, or does not come round to it. What their status says is
// old, so that all other detectors wait meanwhile.
var (
	deploymentUnobserved  = unobserved("deployment", func(d *appsv1.Deployment) int64 { return d.Status.ObservedGeneration })
	statefulSetUnobserved = unobserved("stateful set", func(s *appsv1.StatefulSet) int64 { return s.Status.ObservedGeneration })
	daemonSetUnobserved   = unobserved("daemon set", func(d *appsv1.DaemonSet) int64 { return d.Status.ObservedGeneration })
	budgetUnobserved      = unobserved("budget", func(b *policyv1.PodDisruptionBudget) int64 {
		if _, failed := syncFailed(b); failed { // it was looked at; that is another failure
			return b.Generation
		}
		return b.Status.ObservedGeneration
	})
)

const (
	generationNotObserved = "GenerationNotObserved"
	unobservedHold        = 5 * time.Minute
)

func unobserved[T metav1.Object](kind string, observed func(T) int64) Detector[T] {
	return Detector[T]{
		Name: joined(kind) + "_unobserved",
		Row:  "W5",
		Type: heal.DeploymentFailure,

		Reasons: []string{generationNotObserved},
		Hold:    "5 min",
		Excused: "the " + kind + " is deleted",

		Find: func(obj T, _ Facts) []Finding {
			want, got := obj.GetGeneration(), observed(obj)
			if got >= want {
				return nil
			}
			return []Finding{{
				Reason: generationNotObserved, Hold: unobservedHold,
				Description: fmt.Sprintf("the latest change of %s %s is not taken in: its controller has seen generation %d of %d", kind, obj.GetName(), got, want),
				Evidence: []heal.Evidence{
					{Path: "status.observedGeneration", Value: fmt.Sprint(got)},
					{Path: "metadata.generation", Value: fmt.Sprint(want)},
				},
				Metadata: map[string]string{"generation": fmt.Sprint(want), "observed_generation": fmt.Sprint(got)},
			}}
		},
		Excuse: func(obj T, _ Facts) Excuse {
			if obj.GetDeletionTimestamp() != nil {
				return Leaving
			}
			return None
		},
	}
}

// joined is a kind as it stands in names.
func joined(kind string) string { return strings.ReplaceAll(kind, " ", "") }
