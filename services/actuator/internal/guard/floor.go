package guard

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// floor refuses to take a Ready pod from a workload that has none to spare. A
// PDB may allow more than we do; most workloads have none.
var floor = Guard{Name: "floor", Judge: func(f Facts) Verdict {
	if f.Pod == nil || !IsReady(f.Pod) {
		return Allow("%s is not Ready: without it no fewer are", f.Target)
	}
	if f.Decision.Strategy == heal.Resize {
		return Allow("a larger limit takes no pod away; how many a roll-out keeps is judged by itself")
	}
	least := max(1, f.Workload.Wanted-1)
	if left := f.Workload.Ready - 1; left < least {
		return Veto(Floor, "%s is Ready, and without it %d of %d wanted pods would be: %d must stay", f.Target, left, f.Workload.Wanted, least)
	}
	return Allow("%d of %d wanted pods are Ready: one can be spared", f.Workload.Ready, f.Workload.Wanted)
}}

// Floor is the reason of the guard floor, the one whose refusal passes by
// itself when other pods get Ready.
const Floor = "Floor"

// IsReady reports whether the pod counts as able to serve.
func IsReady(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}
