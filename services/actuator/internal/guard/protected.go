package guard

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Kubernetes' own namespaces, which are never touched.
var systemNamespaces = []string{"kube-system", "kube-public", "kube-node-lease"}

// What marks a node of the control plane; the second is what it was called
// before Kubernetes 1.24.
var controlPlaneLabels = []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"}

// protected refuses whatever the cluster, or this system, runs on.
var protected = Guard{Name: "protected", Judge: func(f Facts) Verdict {
	if ns := f.Target.Namespace; slices.Contains(systemNamespaces, ns) || ns != "" && slices.Contains(f.Reserved, ns) {
		return Veto("ProtectedNamespace", "namespace %s is protected: nothing in it is ever changed", ns)
	}
	if f.Node != nil {
		if label := controlPlaneLabel(f.Node); label != "" {
			return Veto("ProtectedNode", "%s is a control-plane node (label %s): repair it by hand", f.Target, label)
		}
	}
	return Allow("%s is not protected", f.Target)
}}

// ControlPlane reports whether the node belongs to the control plane.
func ControlPlane(n *corev1.Node) bool { return controlPlaneLabel(n) != "" }

// controlPlaneLabel is the label that says so; empty if none does.
func controlPlaneLabel(n *corev1.Node) string {
	for _, label := range controlPlaneLabels {
		if _, ok := n.Labels[label]; ok {
			return label
		}
	}
	return ""
}
