package verify

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// A Replacement is what must be known to tell whether a removed pod was
// replaced by one that works.
type Replacement struct {
	Before Before
	Owned  bool         // the controller is still there
	Wanted int          // how many pods it wants now; of a DaemonSet, 1
	Pods   []corev1.Pod // that it controls now
	Now    time.Time
}

// Before is what was written down before the pod was removed, because
// afterwards it cannot be found out.
type Before struct {
	Pod        heal.Target `json:"pod"`
	Controller heal.Target `json:"controller"`
	Selector   string      `json:"selector"` // of the controller's pods

	// A replacement is a pod made after Since that is not Known. Since lies a
	// little before the newest pod there was, as API servers' clocks differ by
	// a little, and Known holds those made since. So no clock of ours counts.
	Since time.Time   `json:"since"`
	Known []types.UID `json:"known"`

	Leftover bool `json:"leftover,omitempty"` // it had ended and been replaced before; it is only tidied up

	SameName string `json:"same_name,omitempty"` // of a StatefulSet: the replacement has this name
	SameNode string `json:"same_node,omitempty"` // of a DaemonSet: and this node
}

// skew is by how much the clocks of API servers may differ.
const skew = 10 * time.Second

// Remember writes down what pods, all those of the controller, are there.
func Remember(pod *corev1.Pod, target, controller heal.Target, selector string, pods []corev1.Pod) Before {
	b := Before{Pod: target, Controller: controller, Selector: selector, Since: pod.CreationTimestamp.Time}
	for _, p := range pods {
		if p.CreationTimestamp.After(b.Since) {
			b.Since = p.CreationTimestamp.Time
		}
	}
	b.Since = b.Since.Add(-skew)
	for _, p := range pods {
		if !p.CreationTimestamp.Time.Before(b.Since) {
			b.Known = append(b.Known, p.UID)
		}
	}
	b.Leftover = guard.Ended(pod)
	switch controller.Kind {
	case "StatefulSet":
		b.SameName = pod.Name
	case "DaemonSet":
		b.SameNode = pod.Spec.NodeName
	}
	return b
}

// Replaces reports whether p was made in place of the pod.
func (b Before) Replaces(p *corev1.Pod) bool {
	return string(p.UID) != b.Pod.UID && !p.CreationTimestamp.Time.Before(b.Since) && !slices.Contains(b.Known, p.UID) &&
		p.DeletionTimestamp == nil &&
		(b.SameName == "" || p.Name == b.SameName) &&
		(b.SameNode == "" || p.Spec.NodeName == b.SameNode)
}

// Judge says how the replacement is doing. Where several pods of a workload
// are replaced at once, one that fails speaks against all of them: better to
// doubt a success than to claim one.
func (r Replacement) Judge() Sight {
	var made []*corev1.Pod
	var old *corev1.Pod
	active := 0
	for i := range r.Pods {
		p := &r.Pods[i]
		if string(p.UID) == r.Before.Pod.UID {
			old = p
		}
		if p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
			active++
		}
		if r.Before.Replaces(p) {
			made = append(made, p)
		}
	}
	controller := r.Before.Controller
	switch {
	case r.Before.Leftover:
		return r.tidied(old, active)
	case !r.Owned:
		return Sight{State: Moot, Reason: "NoLongerWanted", Message: fmt.Sprintf("%s, which would replace %s, is gone", controller, r.Before.Pod.Name)}
	case len(made) == 0 && active >= r.Wanted && (old == nil || old.DeletionTimestamp != nil):
		return Sight{State: Moot, Reason: "NoLongerWanted",
			Message: fmt.Sprintf("%s wants %d pods by now and has them without %s", controller, r.Wanted, r.Before.Pod.Name)}
	case len(made) == 0:
		return r.missing(old)
	}
	return judgeMade(made)
}

// tidied is the sight of a pod that had ended before: nothing is missing, but
// that it is gone.
func (r Replacement) tidied(old *corev1.Pod, active int) Sight {
	if old != nil {
		s := r.missing(old)
		s.Message = fmt.Sprintf("%s, which had ended, is still there", r.Before.Pod.Name)
		return s
	}
	message := fmt.Sprintf("%s, which had ended, is gone; %s has %d of %d wanted pods", r.Before.Pod.Name, r.Before.Controller, active, r.Wanted)
	return Sight{State: Good, Reason: "Verified", Subject: "gone", Message: message, Checks: []heal.Check{{Name: "leftover_gone", Passed: true, Observed: message}}}
}

// missing is the sight while there is no replacement.
func (r Replacement) missing(old *corev1.Pod) Sight {
	if old != nil && old.DeletionTimestamp != nil {
		return terminating(old, r.Now, fmt.Sprintf("%s has made no replacement yet", r.Before.Controller))
	}
	message := fmt.Sprintf("%s has made no replacement for %s yet", r.Before.Controller, r.Before.Pod.Name)
	return Sight{State: Pending, Message: message, Checks: []heal.Check{{Name: "replacement_ready", Observed: message}}}
}

// terminating is the sight of a pod that was deleted and is still there.
func terminating(old *corev1.Pod, now time.Time, meanwhile string) Sight {
	s := Sight{State: Pending, Message: fmt.Sprintf("%s is still terminating, and %s", old.Name, meanwhile)}
	const patience = 2 * time.Minute // beyond the grace period, which DeletionTimestamp includes
	if over := now.Sub(old.DeletionTimestamp.Time); over > patience {
		s.State, s.Reason = Bad, "StuckTerminating"
		s.Message = fmt.Sprintf("%s should have been gone %s ago, and nothing replaces it before", old.Name, over.Round(time.Second))
	}
	if len(old.Finalizers) > 0 {
		s.Message += fmt.Sprintf("; it is held by the finalizers %s", heal.Clean(strings.Join(old.Finalizers, ", "), 128))
	}
	s.Checks = []heal.Check{{Name: "replacement_ready", Observed: s.Message}}
	return s
}

// judgeMade judges the replacements there are.
func judgeMade(made []*corev1.Pod) Sight {
	slices.SortFunc(made, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	var ready *corev1.Pod
	for _, p := range made {
		if stuck, seen := guard.StuckPod(p); stuck {
			message := fmt.Sprintf("the replacement %s fails too: %s", p.Name, seen)
			return Sight{State: Bad, Reason: "NotFixed", Message: message,
				Checks: []heal.Check{{Name: "replacement_ready", Observed: message}}}
		}
		if ready == nil && guard.IsReady(p) {
			ready = p
		}
	}
	if ready == nil {
		_, seen := guard.SickPod(made[0])
		message := fmt.Sprintf("the replacement %s is not Ready yet: %s", made[0].Name, seen)
		if why := Waiting(made[0]); why != "" {
			message += ", " + why
		}
		return Sight{State: Pending, Message: message, Checks: []heal.Check{{Name: "replacement_ready", Observed: message}}}
	}
	total := 0
	for _, c := range ready.Status.ContainerStatuses {
		total += int(c.RestartCount)
	}
	return Sight{
		State: Good, Reason: "Verified",
		Message: fmt.Sprintf("%s is Ready on %s", ready.Name, ready.Spec.NodeName),
		Subject: fmt.Sprintf("%s/%d", ready.UID, total),
		Checks: []heal.Check{
			{Name: "replacement_ready", Passed: true, Observed: fmt.Sprintf("%s on %s", ready.Name, ready.Spec.NodeName)},
			{Name: "no_restarts", Passed: true, Observed: fmt.Sprintf("%d restarts when it got Ready, none since", total)},
		},
	}
}

// Waiting says why a pod has not got further.
func Waiting(p *corev1.Pod) string {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status != corev1.ConditionTrue {
			return heal.Clean(c.Reason+": "+c.Message, 160)
		}
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && w.Reason != "" {
			return fmt.Sprintf("container %s waits in %s", c.Name, heal.Clean(w.Reason, 64))
		}
	}
	return ""
}
