package detect

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// nodeBootstrap is how long a node that was never ready is taken to be
// starting: its network plugin and its cloud provider need their time.
const nodeBootstrap = 10 * time.Minute

// nodeExcuse is the event hygiene of nodes: one that is taken away on purpose,
// or has only just come, does not fail.
func nodeExcuse(node *corev1.Node, facts Facts) Excuse {
	switch {
	case node.DeletionTimestamp != nil, slices.ContainsFunc(node.Spec.Taints, leavingTaint):
		return Leaving
	case !facts.SeenReady && facts.Now.Sub(node.CreationTimestamp.Time) < nodeBootstrap:
		return Masked
	}
	return None
}

// leavingTaint reports whether a taint says that its node is going away.
func leavingTaint(t corev1.Taint) bool {
	switch t.Key {
	case "karpenter.sh/disrupted", // Karpenter 1.0 and later
		"karpenter.sh/disruption", // before
		"node.cloudprovider.kubernetes.io/shutdown":
		return true
	}
	return strings.HasPrefix(t.Key, "ToBeDeleted") // ToBeDeletedByClusterAutoscaler and its relatives
}

// ReadyCondition finds a node's Ready condition, and its index for evidence.
func ReadyCondition(node *corev1.Node) (int, *corev1.NodeCondition) {
	for i := range node.Status.Conditions {
		if node.Status.Conditions[i].Type == corev1.NodeReady {
			return i, &node.Status.Conditions[i]
		}
	}
	return -1, nil
}
