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
	Name:   "crash_loop",
	Row:    "P1",
	Type:   heal.PodFailure,
	Find:   findCrashLoops,
	Excuse: podExcuse,
	Well:   containerWell,
	Clear:  func(t Thresholds) time.Duration { return t.PodCheckInterval },
}

const crashLoopBackOff = "CrashLoopBackOff"

// restartBurst is how many restarts within RestartWindow need no further
// proof. (The catalogue's row P1; a lower PodRestartThreshold lowers it.)
const restartBurst = 3

func findCrashLoops(pod *corev1.Pod, facts Facts) []Finding {
	var found []Finding
	look := func(list []corev1.ContainerStatus, field, noun string) {
		for i := range list {
			c := &list[i]
			if w := c.State.Waiting; w == nil || w.Reason != crashLoopBackOff {
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
			path := fmt.Sprintf("status.%s[%d]", field, i)
			restarts := strconv.Itoa(int(c.RestartCount))
			f.Evidence = []heal.Evidence{
				{Path: path + ".restartCount", Value: restarts},
				{Path: path + ".state.waiting.reason", Value: crashLoopBackOff},
			}
			f.Description = fmt.Sprintf("%s %s is in %s: %s", noun, c.Name, crashLoopBackOff, count(int(c.RestartCount), "restart"))
			if last := c.LastTerminationState.Terminated; last != nil {
				code := strconv.Itoa(int(last.ExitCode))
				f.Evidence = append(f.Evidence,
					heal.Evidence{Path: path + ".lastState.terminated.reason", Value: last.Reason},
					heal.Evidence{Path: path + ".lastState.terminated.exitCode", Value: code})
				f.Description += ", last exit " + code
				f.Metadata["exit_code"] = code
				if last.Reason != "" {
					f.Metadata["last_reason"] = last.Reason
				}
				if last.Reason == "OOMKilled" {
					f.Description += " (out of memory)"
				}
			}
			found = append(found, f)
		}
	}
	look(pod.Status.InitContainerStatuses, "initContainerStatuses", "init container")
	look(pod.Status.ContainerStatuses, "containerStatuses", "container")
	return found
}

// count writes "1 restart", "2 restarts".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
