package detect

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// memoryNearLimit finds containers that run, but are about to end for want of
// memory, as the metrics API says. Those that have ended of it already belong
// to others.
var memoryNearLimit = Detector[*corev1.Pod]{
	Name: "memory_near_limit",
	Row:  "usage",
	Type: heal.ResourceExhaustion,

	Reasons: []string{"ContainerMemoryNearLimit"},
	Hold:    "2 polls of 5 min, above `usage_threshold`; where metrics.k8s.io is served",
	Excused: podExcused,

	Find: func(pod *corev1.Pod, facts Facts) []Finding {
		if len(facts.Usage) == 0 || over(pod) {
			return nil
		}
		var found []Finding
		for _, c := range containers(pod) {
			u, high := facts.Usage[c.Name]
			if !high || c.State.Running == nil || !c.Ready || spokenFor(c, facts) || saidOtherwise(pod, c.Name, facts) {
				continue
			}
			f := Finding{
				Part:   c.Name,
				Reason: "ContainerMemoryNearLimit",
				Description: fmt.Sprintf("%s uses %d %% of the memory that it may: %s of %s",
					c, u.Percent(), bytes(u.Used), bytes(u.Of)),
				Evidence: []heal.Evidence{{Path: "usage.memory", Value: bytes(u.Used)}, {Path: "resources.limits.memory", Value: bytes(u.Of)}},
				Metadata: u.metadata(),
			}
			f.Metadata["container"] = c.Name
			found = append(found, f)
		}
		return found
	},
	Excuse: podExcuse,
}

// saidOtherwise reports whether another detector speaks for a container that
// runs and is ready, or for its pod as a whole.
func saidOtherwise(pod *corev1.Pod, name string, facts Facts) bool {
	if len(stuckCreating.Find(pod, facts)) > 0 || len(notReady.Find(pod, facts)) > 0 {
		return true
	}
	for _, d := range []Detector[*corev1.Pod]{hookFailing, livenessKilled} {
		for _, f := range d.Find(pod, facts) {
			if f.Part == name {
				return true
			}
		}
	}
	return false
}
