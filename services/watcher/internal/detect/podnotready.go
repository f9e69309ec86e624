package detect

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// notReady finds containers that run and were never restarted for it, but are
// not ready. A pod that is not ready only because of a readiness gate is not
// found: its containers are.
var notReady = Detector[*corev1.Pod]{
	Name: "not_ready",
	Row:  "P12",
	Type: heal.PodFailure,

	Reasons: []string{containersNotReady},
	Hold:    "15 min; 3 min while its controller has no ready pod at all",
	Excused: podExcused + "; its startup probe has not passed yet; only a readiness gate is not met; a container of the pod is failing otherwise",

	Find:   findNotReady,
	Excuse: podExcuse,

	BlamesNode: true,
}

const (
	containersNotReady = "ContainersNotReady"
	notReadyHold       = 15 * time.Minute
	noneReadyHold      = 3 * time.Minute
)

func findNotReady(pod *corev1.Pod, facts Facts) []Finding {
	i, ready := conditionOf(pod, corev1.PodReady)
	if over(pod) || ready == nil || ready.Status != corev1.ConditionFalse || ready.Reason != containersNotReady {
		return nil
	}
	var found []Finding
	for _, c := range containers(pod) {
		switch {
		case creating(c), spokenFor(c, facts):
			return nil // there is more to be said about the pod
		case c.init, c.State.Running == nil, c.Ready, c.Started != nil && !*c.Started:
			continue
		}
		f := Finding{
			Part: c.Name, Reason: containersNotReady, Hold: notReadyHold,
			Description: fmt.Sprintf("%s runs, but is not ready", c),
			Evidence: []heal.Evidence{
				{Path: c.path + ".ready", Value: "false"},
				{Path: fmt.Sprintf("status.conditions[%d].reason", i), Value: ready.Reason},
			},
			Metadata: map[string]string{"container": c.Name},
		}
		if facts.NoneReady {
			f.Hold = noneReadyHold
			f.Metadata["none_ready"] = "true"
		}
		if e := facts.probe(readiness, c.Name); e != nil {
			f.Description += ", its readiness probe fails (" + e.Message + ")"
			f.Evidence = append(f.Evidence, e.evidence())
			f.Metadata["probe"] = readiness
		}
		found = append(found, f)
	}
	return found
}
