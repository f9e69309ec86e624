package detect

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// initFailing finds init containers that have failed and are not started
// again. One that the kubelet keeps starting is a crash loop, and one that
// runs may be waiting for something by design.
var initFailing = Detector[*corev1.Pod]{
	Name: "init_failing",
	Row:  "P9",
	Type: heal.PodFailure,

	Reasons: []string{"InitContainerFailing"},
	Hold:    "5 min",
	Excused: podExcused + "; it runs, or waits in CrashLoopBackOff (crash_loop)",

	Find:   findInitFailing,
	Excuse: podExcuse,

	BlamesNode: true,
}

const initHold = 5 * time.Minute

func findInitFailing(pod *corev1.Pod, _ Facts) []Finding {
	if over(pod) {
		return nil
	}
	var found []Finding
	for _, c := range containers(pod) {
		if !initFailed(c) {
			continue
		}
		f := Finding{
			Part: c.Name, Reason: "InitContainerFailing", Hold: initHold,
			Description: fmt.Sprintf("%s failed and is not started again", c),
			Metadata:    map[string]string{"container": c.Name},
		}
		path, end := c.lastEnd()
		f.tellEnd(path, end)
		found = append(found, f)
	}
	return found
}

func initFailed(c container) bool {
	return c.init && c.State.Terminated != nil && c.State.Terminated.ExitCode != 0
}
