package detect

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Away reports whether a node is out of service for whatever is to run on it,
// and whether that is because it is being emptied.
func Away(node *corev1.Node) (away, emptied bool) {
	emptied = node.DeletionTimestamp != nil || node.Spec.Unschedulable || slices.ContainsFunc(node.Spec.Taints, leavingTaint)
	_, ready := ReadyCondition(node)
	return emptied || ready == nil || ready.Status != corev1.ConditionTrue, emptied
}
