package detect

import (
	"fmt"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

const statefulSetExcused = "the stateful set is deleted or scaled to zero; its status is of an older generation"

// statefulSetExcuse is the event hygiene of stateful sets.
func statefulSetExcuse(s *appsv1.StatefulSet, _ Facts) Excuse {
	switch {
	case s.DeletionTimestamp != nil, desiredStateful(s) == 0:
		return Leaving
	case s.Status.ObservedGeneration < s.Generation:
		return Masked
	}
	return None
}

// desiredStateful is how many replicas are asked for. (The API's default is one.)
func desiredStateful(s *appsv1.StatefulSet) int32 {
	if s.Spec.Replicas == nil {
		return 1
	}
	return *s.Spec.Replicas
}

// rolling reports whether a stateful set is on its way to another revision by
// itself. One that replaces pods only when somebody deletes them is not, nor
// is one that has come as far as its partition allows.
func rolling(s *appsv1.StatefulSet) bool {
	if s.Spec.UpdateStrategy.Type == appsv1.OnDeleteStatefulSetStrategyType || s.Status.UpdateRevision == "" ||
		s.Status.CurrentRevision == s.Status.UpdateRevision {
		return false
	}
	p := partition(s)
	return p == 0 || s.Status.UpdatedReplicas < desiredStateful(s)-p
}

// partition is how many pods a roll-out leaves as they are, on purpose.
func partition(s *appsv1.StatefulSet) int32 {
	if u := s.Spec.UpdateStrategy.RollingUpdate; u != nil && u.Partition != nil {
		return min(*u.Partition, desiredStateful(s))
	}
	return 0
}

// statefulNoneHold is how long a stateful set may be without a ready replica:
// its only pod may have to wait until its volume is attached elsewhere.
const statefulNoneHold = 5 * time.Minute

// statefulSetFinding is what is found of a stateful set.
func statefulSetFinding(s *appsv1.StatefulSet, reason, what string, hold time.Duration) Finding {
	n := func(i int32) string { return strconv.Itoa(int(i)) }
	want := desiredStateful(s)
	f := Finding{
		Reason: reason, Hold: hold,
		Description: fmt.Sprintf("stateful set %s %s: %d of %s ready, %d of the latest revision",
			s.Name, what, s.Status.ReadyReplicas, count(int(want), "replica"), s.Status.UpdatedReplicas),
		Evidence: []heal.Evidence{
			{Path: "status.readyReplicas", Value: n(s.Status.ReadyReplicas)},
			{Path: "status.availableReplicas", Value: n(s.Status.AvailableReplicas)},
			{Path: "status.updatedReplicas", Value: n(s.Status.UpdatedReplicas)},
			{Path: "spec.replicas", Value: n(want)},
		},
		Metadata: map[string]string{
			"ready": n(s.Status.ReadyReplicas), "available": n(s.Status.AvailableReplicas),
			"updated": n(s.Status.UpdatedReplicas), "desired": n(want),
		},
	}
	if s.Status.CurrentRevision != s.Status.UpdateRevision {
		f.Evidence = append(f.Evidence,
			heal.Evidence{Path: "status.currentRevision", Value: s.Status.CurrentRevision},
			heal.Evidence{Path: "status.updateRevision", Value: s.Status.UpdateRevision})
		f.Metadata["current_revision"], f.Metadata["update_revision"] = s.Status.CurrentRevision, s.Status.UpdateRevision
	}
	return f
}
