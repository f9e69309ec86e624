package detect

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// containerCreateError finds containers that the runtime cannot create or
// start. One that it tries again and again waits in CrashLoopBackOff in
// between, and is a crash loop.
var containerCreateError = Detector[*corev1.Pod]{
	Name: "container_create_error",
	Row:  "P7",
	Type: heal.PodFailure,

	Reasons: []string{"CreateContainerError"},
	Hold:    "60 s",
	Excused: podExcused,

	Find: func(pod *corev1.Pod, _ Facts) []Finding {
		return findWaiting(pod, []string{"CreateContainerError", "RunContainerError", "ContainerCannotRun"}, func(c container, _ string) Finding {
			return Finding{
				Reason: "CreateContainerError", Hold: createHold,
				Description: fmt.Sprintf("%s cannot be started: the container runtime refuses it (%s)", c, c.waits()),
			}
		})
	},
	Excuse: podExcuse,
	Well:   containerStarted,

	BlamesNode: true,
}
