package detect

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// hookFailing finds containers whose postStart hook fails, for which the
// kubelet kills and starts them again and again, and those that work, in a pod
// that works, but whose preStop hook failed when they were last stopped. A
// crash loop whose cause is the hook is this failure, and no crash_loop. What
// the kubelet says about a hook may quote its command, and is not copied.
var hookFailing = Detector[*corev1.Pod]{
	Name: "hook_failing",
	Row:  "P8",
	Type: heal.PodFailure,

	Reasons: []string{postStartHookError, failedPreStopHook},
	Hold:    "60 s",
	Excused: podExcused,

	Find:   findHookFailing,
	Excuse: podExcuse,
	Well:   containerWell,
	Clear:  func(t Thresholds) time.Duration { return t.PodCheckInterval },
}

const (
	postStartHookError = "PostStartHookError"
	hookHold           = 60 * time.Second
)

func findHookFailing(pod *corev1.Pod, facts Facts) []Finding {
	if over(pod) {
		return nil
	}
	// What happened at the last stop is said last.
	calm := !slices.ContainsFunc(containers(pod), func(c container) bool {
		return spokenFor(c, facts) || creating(c) || !c.init && !c.Ready
	})
	var found []Finding
	for _, c := range containers(pod) {
		f := Finding{Part: c.Name, Hold: hookHold, Metadata: map[string]string{"container": c.Name}}
		switch {
		case postStartFails(c, facts):
			f.Reason = postStartHookError
			f.Description = fmt.Sprintf("%s cannot be started: its postStart hook fails", c)
			f.Evidence = []heal.Evidence{{Path: c.path + ".state.waiting.reason", Value: c.waits()}}
			f.Metadata["hook"] = "postStart"
			if e := facts.event(failedPostStartHook, c.Name); e != nil {
				f.Evidence = append(f.Evidence, e.evidence())
			}
		case calm && preStopFailed(c, facts):
			f.Reason = failedPreStopHook
			f.Description = fmt.Sprintf("%s works, but its preStop hook failed when it was last stopped", c)
			f.Evidence = []heal.Evidence{facts.event(failedPreStopHook, c.Name).evidence()}
			f.Metadata["hook"] = "preStop"
		default:
			continue
		}
		found = append(found, f)
	}
	return found
}

// postStartFails reports whether a container waits because of its postStart hook.
func postStartFails(c container, facts Facts) bool {
	switch c.waits() {
	case postStartHookError:
		return true
	case crashLoopBackOff:
		_, end := c.lastEnd()
		return facts.event(failedPostStartHook, c.Name) != nil || end != nil && end.Reason == postStartHookError
	}
	return false
}

// preStopFailed reports whether a container works, but its preStop hook failed
// of late.
func preStopFailed(c container, facts Facts) bool {
	return c.State.Running != nil && c.Ready && facts.event(failedPreStopHook, c.Name) != nil
}
