package verify

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Bare is what must be known to tell whether a pod without a controller was
// made anew and works.
type Bare struct {
	Before heal.Target // the pod that was deleted
	Pod    *corev1.Pod // which has its name now; nil for none
	Now    time.Time
}

// Judge says how the pod is doing.
func (b Bare) Judge() Sight {
	switch {
	case b.Pod == nil:
		message := b.Before.Name + " is not there again yet"
		return Sight{State: Pending, Message: message, Checks: []heal.Check{{Name: "replacement_ready", Observed: message}}}
	case string(b.Pod.UID) != b.Before.UID:
		return judgeMade([]*corev1.Pod{b.Pod})
	case b.Pod.DeletionTimestamp == nil:
		message := fmt.Sprintf("%s was not deleted", b.Before.Name)
		return Sight{State: Pending, Message: message, Checks: []heal.Check{{Name: "replacement_ready", Observed: message}}}
	}
	return terminating(b.Pod, b.Now, "it cannot be made anew before")
}
