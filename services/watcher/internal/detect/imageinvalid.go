package detect

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// imageInvalid finds containers whose image no attempt can fetch: its name is
// none, or it is not on the node and must not be pulled.
var imageInvalid = Detector[*corev1.Pod]{
	Name: "image_invalid",
	Row:  "P5",
	Type: heal.PodFailure,

	Reasons: []string{invalidImageName, errImageNeverPull},
	Hold:    "none",
	Excused: podExcused,

	Find: func(pod *corev1.Pod, _ Facts) []Finding {
		return findWaiting(pod, []string{invalidImageName, errImageNeverPull}, func(c container, _ string) Finding {
			why := "its image's name is not valid"
			if c.waits() == errImageNeverPull {
				why = "its image is not on the node, and must not be pulled"
			}
			return Finding{Reason: c.waits(), Description: fmt.Sprintf("%s cannot be started: %s", c, why)}
		})
	},
	Excuse: podExcuse,
	Well:   containerStarted,
}

const (
	invalidImageName  = "InvalidImageName"
	errImageNeverPull = "ErrImageNeverPull"
)
