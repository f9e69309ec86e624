package detect

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// oomKilled finds containers that run and are ready, but have ended for want
// of memory more than once within OOMWindow. A single time is not announced,
// and those that happen in quick succession are a crash loop, which says so.
// An exit code 137 alone is somebody's SIGKILL, not memory.
var oomKilled = Detector[*corev1.Pod]{
	Name: "oom_killed",
	Row:  "P3",
	Type: heal.PodFailure,

	Reasons: []string{outOfMemory},
	Hold:    "`pod_check_interval`, from the second time in 1 h; until 10 min after the last",
	Excused: podExcused + "; it happens in quick succession (crash_loop)",

	Find:   findOOMKilled,
	Excuse: podExcuse,
}

const (
	outOfMemory = "OOMKilled"
	oomRepeated = 2
)

func findOOMKilled(pod *corev1.Pod, facts Facts) []Finding {
	if over(pod) {
		return nil
	}
	var found []Finding
	for _, c := range containers(pod) {
		if !shortOfMemory(c, facts) {
			continue
		}
		n := facts.OOMKills[c.Name]
		f := Finding{
			Part:        c.Name,
			Reason:      outOfMemory,
			Hold:        facts.PodCheckInterval,
			Description: fmt.Sprintf("%s ran out of memory %s in the last hour", c, times(n)),
			Evidence:    []heal.Evidence{{Path: c.path + ".restartCount", Value: strconv.Itoa(int(c.RestartCount))}},
			Metadata:    map[string]string{"container": c.Name, "oom_kills_in_window": strconv.Itoa(n)},
		}
		path, end := c.lastEnd()
		f.tellEnd(path, end)
		found = append(found, f)
	}
	return found
}

// shortOfMemory reports whether a container works between two ends for want
// of memory. While it is not ready, crash_loop may still be following it.
func shortOfMemory(c container, facts Facts) bool {
	last := c.LastTerminationState.Terminated
	return c.State.Running != nil && c.Ready && last != nil && last.Reason == outOfMemory &&
		facts.OOMKills[c.Name] >= oomRepeated && facts.Now.Sub(last.FinishedAt.Time) < RestartWindow &&
		(facts.BackedOff[c.Name] == 0 || facts.Restarts[c.Name] < min(restartBurst, facts.PodRestartThreshold))
}
