package detect

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// restarting finds containers that run, but have been started again and again
// without the kubelet making them wait. Those that it made wait were a crash
// loop, and either are one still or have just come out of it.
var restarting = Detector[*corev1.Pod]{
	Name: "restarting",
	Row:  "P2",
	Type: heal.PodFailure,

	Reasons: []string{"Restarting"},
	Hold:    "none, from `pod_restart_threshold` restarts in 10 min",
	Excused: podExcused + "; it was in CrashLoopBackOff in the last 10 min (crash_loop)",

	Find:   findRestarting,
	Excuse: podExcuse,

	BlamesNode: true,
}

func findRestarting(pod *corev1.Pod, facts Facts) []Finding {
	if over(pod) {
		return nil
	}
	var found []Finding
	for _, c := range containers(pod) {
		if !restarts(c, facts) || shortOfMemory(c, facts) {
			continue
		}
		n := facts.Restarts[c.Name]
		f := Finding{
			Part:        c.Name,
			Reason:      "Restarting",
			Description: fmt.Sprintf("%s runs, but was restarted %s in the last %s", c, times(n), RestartWindow),
			Evidence:    []heal.Evidence{{Path: c.path + ".restartCount", Value: strconv.Itoa(int(c.RestartCount))}},
			Metadata:    map[string]string{"container": c.Name, "restarts_in_window": strconv.Itoa(n)},
		}
		if path, end := c.lastEnd(); end != nil {
			f.tellEnd(path, end)
		}
		found = append(found, f)
	}
	return found
}

func restarts(c container, facts Facts) bool {
	return c.State.Running != nil && !livenessKills(c, facts) && facts.Restarts[c.Name] >= max(1, facts.PodRestartThreshold) && facts.BackedOff[c.Name] == 0
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}
