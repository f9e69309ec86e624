package detect

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// evicted finds pods that their kubelet has evicted, since the node ran short
// of something or the pod used more storage than it may. Their controller has
// made others already; what is left is the trace of a shortage. An eviction
// that somebody asked for, such as a drain, deletes the pod and is none.
var evicted = Detector[*corev1.Pod]{
	Name: "evicted",
	Row:  "P15, P19",
	Type: heal.ResourceExhaustion,

	Reasons: []string{reasonEvicted},
	Hold:    "none; for 1 h",
	Excused: "the pod is deleted, disrupted on purpose or a mirror pod; it has no controller (bare_pod_failed); its node is not ready",

	Find: func(pod *corev1.Pod, facts Facts) []Finding {
		if pod.Status.Phase != corev1.PodFailed || pod.Status.Reason != reasonEvicted || !controlled(pod) || facts.Now.Sub(endedAt(pod)) >= leftoverTold {
			return nil
		}
		resource, whose := shortage(pod.Status.Message)
		f := Finding{
			Reason:      reasonEvicted,
			Description: fmt.Sprintf("the pod was evicted from node %s: %s", pod.Spec.NodeName, strings.TrimSpace(pod.Status.Message)),
			Evidence:    endEvidence(pod),
			Metadata:    map[string]string{"resource": resource, "limit": whose},
		}
		return []Finding{f}
	},
	Excuse: evictedExcuse,
}

const reasonEvicted = "Evicted"

// evictedExcuse is podExcuse, but that a kubelet marks what it evicts as
// disrupted as well.
func evictedExcuse(pod *corev1.Pod, facts Facts) Excuse {
	e := podExcuse(pod, facts)
	if e != Leaving || pod.DeletionTimestamp != nil || mirror(pod) {
		return e
	}
	if _, c := conditionOf(pod, corev1.DisruptionTarget); c == nil || c.Reason != corev1.PodReasonTerminationByKubelet {
		return e
	}
	if facts.NodeFailing {
		return Masked
	}
	return None
}

// endEvidence is what a pod that has failed says of it.
func endEvidence(pod *corev1.Pod) []heal.Evidence {
	all := []heal.Evidence{{Path: "status.phase", Value: string(pod.Status.Phase)}}
	if pod.Status.Reason != "" {
		all = append(all, heal.Evidence{Path: "status.reason", Value: pod.Status.Reason})
	}
	if pod.Status.Message != "" {
		all = append(all, heal.Evidence{Path: "status.message", Value: pod.Status.Message})
	}
	return all
}

// shortage tells from the kubelet's words what there was too little of, and
// whether the node or the pod's own limit set the bound
// (pkg/kubelet/eviction/helpers.go).
func shortage(message string) (resource, limit string) {
	message = strings.ToLower(message)
	limit = "node"
	if strings.Contains(message, "exceed") {
		limit = "own"
	}
	for _, r := range []struct{ name, words string }{
		{"memory", "resource: memory"},
		{"memory", "memorypressure"},
		{"inodes", "inodes"},
		{"process_ids", "resource: pids"},
		{"process_ids", "pidpressure"},
		{"ephemeral_storage", "ephemeral"},
		{"ephemeral_storage", "emptydir"},
		{"ephemeral_storage", "diskpressure"},
	} {
		if strings.Contains(message, r.words) {
			return r.name, limit
		}
	}
	return "unknown", limit
}
