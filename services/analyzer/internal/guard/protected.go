package guard

import (
	"fmt"
	"slices"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Protected always, whatever the policy says: what everything else stands on.
func systemNamespaces() []string { return []string{"kube-system", "kube-public", "kube-node-lease"} }

// protected keeps hands off the namespaces that the cluster, or we, live from,
// and off the nodes that it is controlled from.
func protected(in Input) heal.Verdict {
	all := slices.Concat(systemNamespaces(), in.Protected, in.Limits.ProtectedNamespaces)
	for _, t := range []heal.Target{in.Failure.Target, in.Failure.Affected()} {
		if t.Namespace == "" && !clusterScoped(t.Kind) {
			return veto("ProtectedNamespace", fmt.Sprintf("%s has no namespace, so nobody can tell whether it is protected", t))
		}
		if slices.Contains(all, t.Namespace) {
			return veto("ProtectedNamespace", fmt.Sprintf("namespace %s is protected", t.Namespace))
		}
	}
	if in.Failure.Target.Kind == "Node" && in.Failure.Metadata["control_plane"] == "true" {
		return veto("ProtectedNode", fmt.Sprintf("%s is of the control plane: repair it by hand", in.Failure.Target))
	}
	if in.Failure.Target.Namespace == "" {
		return allow(in.Failure.Target.Kind + " belongs to no namespace")
	}
	return allow(fmt.Sprintf("namespace %s is none of the %d protected ones", in.Failure.Target.Namespace, len(all)))
}

// clusterScoped reports whether objects of the kind have no namespace.
func clusterScoped(kind string) bool {
	return slices.Contains([]string{"Node", "PersistentVolume", "Namespace", "APIService", "StorageClass"}, kind)
}
