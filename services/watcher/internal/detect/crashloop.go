package detect

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// crashLoop finds containers that the kubelet lets wait before it starts them
// once more. Between two crashes such a container runs for a moment, which is
// neither the end of the failure nor the start of a new one.
var crashLoop = Detector[*corev1.Pod]{
	Name: "crash_loop",
	Row:  "P1",
	Type: heal.PodFailure,

	Reasons: []string{crashLoopBackOff},
	Hold:    "2 × `pod_check_interval`; none from 3 restarts (or `pod_restart_threshold`) in 10 min",
	Excused: podExcused,

	Find:   findCrashLoops,
	Excuse: podExcuse,
	Well:   containerWell,
	Clear:  func(t Thresholds) time.Duration { return t.PodCheckInterval },

	BlamesNode: true,
}

const crashLoopBackOff = "CrashLoopBackOff"

// restartBurst is how many restarts within RestartWindow need no further
// proof. (The catalogue's row P1; a lower PodRestartThreshold lowers it.)
const restartBurst = 3

func findCrashLoops(pod *corev1.Pod, facts Facts) []Finding {
	var found []Finding
	for _, c := range containers(pod) {
		if c.waits() != crashLoopBackOff || postStartFails(c, facts) || livenessKills(c, facts) {
			continue
		}
		f := Finding{
			Part:     c.Name,
			Reason:   crashLoopBackOff,
			Hold:     2 * facts.PodCheckInterval,
			Metadata: map[string]string{"container": c.Name},
		}
		if n := facts.Restarts[c.Name]; n > 0 {
			f.Metadata["restarts_in_window"] = strconv.Itoa(n)
			if n >= min(restartBurst, facts.PodRestartThreshold) {
				f.Hold = 0
			}
		}
		f.Evidence = []heal.Evidence{
			{Path: c.path + ".restartCount", Value: strconv.Itoa(int(c.RestartCount))},
			{Path: c.path + ".state.waiting.reason", Value: crashLoopBackOff},
		}
		f.Description = fmt.Sprintf("%s is in %s: %s", c, crashLoopBackOff, count(int(c.RestartCount), "restart"))
		if last := c.LastTerminationState.Terminated; last != nil {
			f.tellEnd(c.path+".lastState", last)
			if last.Reason == outOfMemory {
				f.tellNodeOOM(facts)
			}
		}
		found = append(found, f)
	}
	return found
}

// tellEnd adds how a container last ended.
func (f *Finding) tellEnd(path string, end *corev1.ContainerStateTerminated) {
	code := strconv.Itoa(int(end.ExitCode))
	f.Evidence = append(f.Evidence,
		heal.Evidence{Path: path + ".terminated.reason", Value: end.Reason},
		heal.Evidence{Path: path + ".terminated.exitCode", Value: code})
	if end.Message != "" { // it often names what was not there
		f.Evidence = append(f.Evidence, heal.Evidence{Path: path + ".terminated.message", Value: end.Message})
	}
	f.Description += ", last exit " + code
	f.Metadata["exit_code"] = code
	if end.Reason != "" {
		f.Metadata["last_reason"] = end.Reason
	}
	if end.Reason == outOfMemory {
		f.Description += " (out of memory)"
	}
}

// count writes "1 restart", "2 restarts".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
