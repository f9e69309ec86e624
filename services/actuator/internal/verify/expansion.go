package verify

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// An Expansion is what must be known to tell whether a volume has grown.
type Expansion struct {
	Target heal.Target
	Claim  *corev1.PersistentVolumeClaim // what has its name now; nil for nothing
	Size   string                        // that we asked for
}

// Judge says how the expansion is doing.
func (e Expansion) Judge() Sight {
	c := e.Claim
	if c == nil || string(c.UID) != e.Target.UID || c.DeletionTimestamp != nil {
		return Sight{State: Moot, Reason: "NoLongerWanted", Message: e.Target.String() + " is gone"}
	}
	want, err := resource.ParseQuantity(e.Size)
	asked, has := c.Spec.Resources.Requests[corev1.ResourceStorage], c.Status.Capacity[corev1.ResourceStorage]
	if err != nil || asked.Cmp(want) < 0 {
		message := fmt.Sprintf("%s asks for %s again instead of %s%s: hands off, it has an owner", e.Target, asked.String(), e.Size, otherWriter(c.ObjectMeta))
		return Sight{State: Bad, Reason: "Overridden", Message: message, Checks: []heal.Check{{Name: "size_in_place", Observed: message}}}
	}
	inPlace := heal.Check{Name: "size_in_place", Passed: true, Observed: "it asks for " + asked.String()}
	grown := heal.Check{Name: "volume_grown", Passed: has.Cmp(want) >= 0, Observed: fmt.Sprintf("%s of %s", has.String(), e.Size)}
	s := Sight{State: Good, Reason: "Verified", Subject: has.String(), Message: fmt.Sprintf("%s has %s", e.Target, has.String()), Checks: []heal.Check{inPlace, grown}}
	if grown.Passed {
		return s
	}
	s.State, s.Reason, s.Subject, s.Message = Pending, "", "", fmt.Sprintf("%s has %s, and %s are asked for", e.Target, has.String(), e.Size)
	for _, cond := range c.Status.Conditions {
		failed := cond.Type == corev1.PersistentVolumeClaimControllerResizeError || cond.Type == corev1.PersistentVolumeClaimNodeResizeError
		if cond.Status != corev1.ConditionTrue {
			continue
		}
		s.Message += "; " + heal.Clean(strings.TrimSpace(string(cond.Type)+" "+cond.Message), 160)
		if failed {
			s.Late = &Conclusion{Outcome: heal.Failed, Reason: "ExpansionFailed", Message: s.Message}
		}
	}
	switch c.Status.AllocatedResourceStatuses[corev1.ResourceStorage] {
	case corev1.PersistentVolumeClaimControllerResizeInfeasible, corev1.PersistentVolumeClaimNodeResizeInfeasible:
		s.State, s.Reason = Bad, "ExpansionFailed"
		s.Message += "; whoever provides the volume says that it cannot be expanded so far"
	}
	return s
}

// otherWriter names who wrote the object last, if that was not us.
func otherWriter(o metav1.ObjectMeta) string {
	name := ""
	var last metav1.Time
	for _, entry := range o.ManagedFields {
		if entry.Subresource == "" && entry.Manager != heal.FieldManager && entry.Time != nil && !entry.Time.Before(&last) {
			name, last = heal.Clean(entry.Manager, 64), *entry.Time
		}
	}
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" (field manager %s)", name)
}
