package detect

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// livenessKilled finds containers that the kubelet kills again and again since
// their liveness probe fails. It speaks for them also while they wait in
// CrashLoopBackOff: they do not crash. Each kill shows as a restart, and the
// probe's events tell why; one that ended otherwise, or for want of memory,
// was not killed for it.
var livenessKilled = Detector[*corev1.Pod]{
	Name: "liveness_killed",
	Row:  "P13",
	Type: heal.PodFailure,

	Reasons: []string{"LivenessProbeFailed"},
	Hold:    "none, from 3 restarts in 10 min",
	Excused: podExcused + "; its last end was for want of memory, or with an exit code other than 0, 137 and 143",

	Find:   findLivenessKilled,
	Excuse: podExcuse,

	BlamesNode: true,
}

// livenessRepeated is how many kills within RestartWindow count.
const livenessRepeated = 3

func findLivenessKilled(pod *corev1.Pod, facts Facts) []Finding {
	if over(pod) {
		return nil
	}
	var found []Finding
	for _, c := range containers(pod) {
		if !livenessKills(c, facts) {
			continue
		}
		n, e := facts.Restarts[c.Name], facts.probe(liveness, c.Name)
		f := Finding{
			Part:        c.Name,
			Reason:      "LivenessProbeFailed",
			Description: fmt.Sprintf("%s was killed %s in the last %s, its liveness probe fails (%s)", c, times(n), RestartWindow, e.Message),
			Evidence: []heal.Evidence{
				{Path: c.path + ".restartCount", Value: strconv.Itoa(int(c.RestartCount))},
				e.evidence(),
			},
			Metadata: map[string]string{"container": c.Name, "restarts_in_window": strconv.Itoa(n), "probe": liveness},
		}
		path, end := c.lastEnd()
		f.tellEnd(path, end)
		found = append(found, f)
	}
	return found
}

// livenessKills reports whether a container keeps being killed for its
// liveness probe, whether it runs or waits to be started again.
func livenessKills(c container, facts Facts) bool {
	if c.State.Running == nil && c.waits() != crashLoopBackOff {
		return false
	}
	_, end := c.lastEnd()
	return end != nil && end.Reason != outOfMemory && slices.Contains([]int32{0, 137, 143}, end.ExitCode) && // SIGKILL, SIGTERM, or it obeyed
		facts.Restarts[c.Name] >= livenessRepeated && facts.probe(liveness, c.Name) != nil
}
