package detect

import (
	"fmt"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Replica sets that nobody else controls. Of all others their Deployment
// speaks, or whatever controls them.
var (
	replicaSetUnavailable = Detector[*appsv1.ReplicaSet]{
		Name: "replicaset_unavailable",
		Row:  "W4",
		Type: heal.DeploymentFailure,

		Reasons: []string{noReplicasReady},
		Hold:    "5 min",
		Excused: replicaSetExcused + "; it was made or scaled in the last minute",

		Find: func(r *appsv1.ReplicaSet, _ Facts) []Finding {
			if r.Status.ReadyReplicas > 0 || !bare(r) {
				return nil
			}
			return []Finding{replicaSetFinding(r, noReplicasReady, "serves nothing", statefulNoneHold)}
		},
		Excuse: replicaSetSettling,
		Well:   func(r *appsv1.ReplicaSet, _ string) bool { return r.Status.ReadyReplicas > 0 },
	}
	replicaSetDegraded = Detector[*appsv1.ReplicaSet]{
		Name: "replicaset_degraded",
		Row:  "W3",
		Type: heal.DeploymentFailure,

		Reasons: []string{replicasMissing},
		Hold:    "15 min",
		Excused: replicaSetExcused + "; it was made or scaled in the last minute; up to a quarter is missing while nodes are drained or lost; none is ready (replicaset_unavailable)",

		Find: func(r *appsv1.ReplicaSet, _ Facts) []Finding {
			if r.Status.ReadyReplicas == 0 || r.Status.AvailableReplicas >= desiredSet(r) || !bare(r) {
				return nil
			}
			return []Finding{replicaSetFinding(r, replicasMissing, "lacks replicas", degradedHold)}
		},
		Excuse: func(r *appsv1.ReplicaSet, facts Facts) Excuse {
			if e := replicaSetSettling(r, facts); e != None {
				return e
			}
			if facts.drains(desiredSet(r)-r.Status.AvailableReplicas, desiredSet(r)) {
				return Masked
			}
			return None
		},
		Well: func(r *appsv1.ReplicaSet, _ string) bool { return r.Status.AvailableReplicas >= desiredSet(r) },
	}
	replicaSetRefused = Detector[*appsv1.ReplicaSet]{
		Name: "replicaset_refused",
		Row:  "W2",
		Type: heal.DeploymentFailure,

		Reasons: []string{failedCreate},
		Hold:    "2 min",
		Excused: replicaSetExcused + "; its namespace is being deleted",

		Find:   findRefusedSet,
		Excuse: replicaSetExcuse,
		Well: func(r *appsv1.ReplicaSet, _ string) bool {
			_, refused := refusedSet(r)
			return !refused
		},
	}
	replicaSetUnobserved = unobserved("replica set", func(r *appsv1.ReplicaSet) int64 {
		if !bare(r) { // a matter of its controller
			return r.Generation
		}
		return r.Status.ObservedGeneration
	})
)

const replicaSetExcused = "the replica set is controlled by something, deleted or scaled to zero; its status is of an older generation"

func bare(r *appsv1.ReplicaSet) bool { return metav1.GetControllerOfNoCopy(r) == nil }

// desiredSet is how many replicas are asked for. (The API's default is one.)
func desiredSet(r *appsv1.ReplicaSet) int32 {
	if r.Spec.Replicas == nil {
		return 1
	}
	return *r.Spec.Replicas
}

// replicaSetExcuse is the event hygiene of replica sets.
func replicaSetExcuse(r *appsv1.ReplicaSet, _ Facts) Excuse {
	switch {
	case r.DeletionTimestamp != nil, desiredSet(r) == 0, !bare(r):
		return Leaving
	case r.Status.ObservedGeneration < r.Generation:
		return Masked
	}
	return None
}

func replicaSetSettling(r *appsv1.ReplicaSet, facts Facts) Excuse {
	if e := replicaSetExcuse(r, facts); e != None {
		return e
	}
	if facts.settling() {
		return Masked
	}
	return None
}

// refusedSet finds the condition that says that pods are refused.
func refusedSet(r *appsv1.ReplicaSet) (int, bool) {
	for i, c := range r.Status.Conditions {
		if c.Type == appsv1.ReplicaSetReplicaFailure && c.Status == corev1.ConditionTrue && c.Reason == failedCreate {
			return i, true
		}
	}
	return -1, false
}

func findRefusedSet(r *appsv1.ReplicaSet, _ Facts) []Finding {
	i, refused := refusedSet(r)
	if !refused || !bare(r) {
		return nil
	}
	message := r.Status.Conditions[i].Message
	by := refusalOf(message)
	if by.by == "namespace" {
		return nil // it goes, and all that is in it
	}
	f := replicaSetFinding(r, failedCreate, "is refused pods by "+by.words, refusedHold)
	for key, value := range refusalFinding(by, refusedHold).Metadata {
		f.Metadata[key] = value
	}
	f.Evidence = append(f.Evidence, heal.Evidence{Path: fmt.Sprintf("status.conditions[%d].message", i), Value: message})
	return []Finding{f}
}

// replicaSetFinding is what is found of a replica set.
func replicaSetFinding(r *appsv1.ReplicaSet, reason, what string, hold time.Duration) Finding {
	n := func(i int32) string { return strconv.Itoa(int(i)) }
	want := desiredSet(r)
	return Finding{
		Reason: reason, Hold: hold,
		Description: fmt.Sprintf("replica set %s %s: %d of %s ready", r.Name, what, r.Status.ReadyReplicas, count(int(want), "replica")),
		Evidence: []heal.Evidence{
			{Path: "status.readyReplicas", Value: n(r.Status.ReadyReplicas)},
			{Path: "status.availableReplicas", Value: n(r.Status.AvailableReplicas)},
			{Path: "spec.replicas", Value: n(want)},
		},
		Metadata: map[string]string{"ready": n(r.Status.ReadyReplicas), "available": n(r.Status.AvailableReplicas), "desired": n(want)},
	}
}
