package guard

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/selfheal/selfheal/pkg/heal"
)

// How a lack of something shows, by the kind of what lacks it.

func exhausted(f Facts) (bool, string) {
	switch {
	case f.Pod != nil:
		return nearLimit(f)
	case f.Node != nil:
		return underPressure(f.Node, f.Decision.Failure.Reason)
	case f.Claim != nil:
		return filling(f)
	}
	return false, "nothing of it is known here to run out"
}

// outOfMemoryFor is how long ago a container may have been killed for want of
// memory to need more: a little longer than the watcher goes on announcing it.
const outOfMemoryFor = 15 * time.Minute

// OutOfMemory is the container of the pod that was killed last for want of
// memory; empty if none was of late.
func OutOfMemory(p *corev1.Pod, now time.Time) string {
	name, last := "", now.Add(-outOfMemoryFor)
	for _, c := range p.Status.ContainerStatuses {
		if end := lastEnd(c); end != nil && end.Reason == oomKilled && end.FinishedAt.After(last) {
			name, last = c.Name, end.FinishedAt.Time
		}
	}
	return name
}

// oomKilled is a reason of a terminated container, which k8s.io/api does not name.
const oomKilled = "OOMKilled"

// killedForMemory is how an OOMKilled shows that is to be answered with more
// memory: between two of them the container runs and is Ready.
func killedForMemory(f Facts) (bool, string) {
	name := f.Decision.Failure.Metadata["container"]
	for _, c := range f.Pod.Status.ContainerStatuses {
		end := lastEnd(c)
		if name != "" && c.Name != name || end == nil || end.Reason != oomKilled {
			continue
		}
		ago := f.Now.Sub(end.FinishedAt.Time)
		return ago < outOfMemoryFor, fmt.Sprintf("container %s was killed for want of memory %s ago, %s", c.Name, ago.Round(time.Second), restarts(c))
	}
	return false, "no container was killed for want of memory"
}

// nearPercent is from which part of its limit on a container needs more. It is
// what the watcher announces at least: 50 is the lowest usage_threshold, but
// below this nobody would raise a limit.
const nearPercent = 75

func nearLimit(f Facts) (bool, string) {
	name := f.Decision.Failure.Metadata["container"]
	for _, c := range f.Pod.Spec.Containers {
		limit, has := c.Resources.Limits[corev1.ResourceMemory]
		used, known := f.Usage[c.Name]
		if c.Name != name || !has || !known || limit.Value() <= 0 {
			continue
		}
		percent := 100 * float64(used) / float64(limit.Value())
		return percent >= nearPercent, fmt.Sprintf("container %s uses %.0f %% of its memory limit of %s", name, percent, limit.String())
	}
	return false, fmt.Sprintf("how much memory container %q uses, and of how much, is not known", heal.Clean(name, 64))
}

// pressures are the conditions of nodes that say that something runs short.
var pressures = []corev1.NodeConditionType{corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure}

func underPressure(n *corev1.Node, reason string) (bool, string) {
	for _, c := range n.Status.Conditions {
		if string(c.Type) == reason && slices.Contains(pressures, c.Type) {
			return c.Status == corev1.ConditionTrue, fmt.Sprintf("%s is %s: %s", c.Type, c.Status, heal.Clean(c.Reason, 64))
		}
	}
	return false, fmt.Sprintf("it has no condition %s", heal.Clean(reason, 64))
}

// UnderPressure reports whether the node says that what reason names runs short.
func UnderPressure(n *corev1.Node, reason string) bool {
	under, _ := underPressure(n, reason)
	return under
}

// filling is how a volume that is nearly full shows. How full it is, only its
// kubelet knows, and to ask that is a right over all of its pods; but whether
// the volume has grown since it was seen, its claim says.
func filling(f Facts) (bool, string) {
	c := f.Claim
	capacity := c.Status.Capacity[corev1.ResourceStorage]
	if c.Status.Phase != corev1.ClaimBound || capacity.IsZero() {
		return false, fmt.Sprintf("the claim is %s", c.Status.Phase)
	}
	seen, err := strconv.ParseInt(f.Decision.Failure.Metadata["of"], 10, 64)
	if err != nil || seen <= 0 {
		return false, "the failure does not say how large the volume was"
	}
	// A file system is a little smaller than its volume.
	if float64(capacity.Value()) > 1.15*float64(seen) {
		return false, fmt.Sprintf("it has %s, and had %s when it was seen to be nearly full", capacity.String(), resource.NewQuantity(seen, resource.BinarySI))
	}
	return true, strings.TrimSpace(fmt.Sprintf("it has %s, as when it was seen to be %s %% full", capacity.String(), heal.Clean(f.Decision.Failure.Metadata["percent"], 8)))
}
