package detect

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// oomKilled finds containers that run and are ready, but have ended for want
// of memory within OOMWindow. The first time has a reason of its own: it is to
// be noted, and from the second on something is to be done. Those that happen
// in quick succession are a crash loop, which says so. An exit code 137 alone
// is somebody's SIGKILL, not memory.
var oomKilled = Detector[*corev1.Pod]{
	Name: "oom_killed",
	Row:  "P3",
	Type: heal.PodFailure,

	Reasons: []string{oomKilledOnce, outOfMemory},
	Hold:    "`pod_check_interval`; until 10 min after the last; `OOMKilled` from the second time in 1 h",
	Excused: podExcused + "; it happens in quick succession (crash_loop)",

	Find:   findOOMKilled,
	Excuse: podExcuse,
}

const (
	outOfMemory   = "OOMKilled"
	oomKilledOnce = "OOMKilledOnce"
	oomRepeated   = 2
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
		if n < oomRepeated {
			f.Reason = oomKilledOnce
		}
		path, end := c.lastEnd()
		f.tellEnd(path, end)
		f.tellNodeOOM(facts)
		found = append(found, f)
	}
	return found
}

// shortOfMemory reports whether a container works between two ends for want
// of memory. While it is not ready, crash_loop may still be following it.
func shortOfMemory(c container, facts Facts) bool {
	last := c.LastTerminationState.Terminated
	if c.State.Running == nil || !c.Ready || last == nil || last.Reason != outOfMemory || facts.Now.Sub(last.FinishedAt.Time) >= RestartWindow {
		return false
	}
	switch n := facts.OOMKills[c.Name]; {
	case n >= oomRepeated:
		return facts.BackedOff[c.Name] == 0 || facts.Restarts[c.Name] < min(restartBurst, facts.PodRestartThreshold)
	case n == 1: // other ends are worse
		return facts.BackedOff[c.Name] == 0 && facts.Restarts[c.Name] <= 1
	}
	return false
}

// tellNodeOOM adds that the node itself ran out of memory of late, if it did:
// then the container may have been killed for what others used.
func (f *Finding) tellNodeOOM(facts Facts) {
	if e := facts.NodeOOM; e != nil && e.recent(facts.Now) {
		f.Evidence = append(f.Evidence, e.evidence())
		f.Metadata["node_out_of_memory"] = "true"
	}
}
