package detect

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
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

// Tended reports whether people, or their tools, have cordoned a node: that it
// is silent, or comes up anew, is their doing.
func Tended(node *corev1.Node) bool { return node.Spec.Unschedulable && !ours(node) }

// InHand reports whether anybody, we included, is at work on a node.
func InHand(node *corev1.Node) bool { return node.Spec.Unschedulable || ours(node) }

// notReadyExcuse is the event hygiene of a node's not being ready.
func notReadyExcuse(node *corev1.Node, facts Facts) Excuse {
	if e := nodeExcuse(node, facts); e != None {
		return e
	}
	if _, ready := ReadyCondition(node); Tended(node) && ready != nil && ready.Status != corev1.ConditionTrue {
		return Masked
	}
	return None
}

const tendedExcused = "others than we have cordoned the node"

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

// conditionExcuse is the event hygiene of all that a node's other conditions
// show: besides that of nodes, what a node that is not ready says about itself
// is old, and node_not_ready speaks for it.
func conditionExcuse(node *corev1.Node, facts Facts) Excuse {
	if e := nodeExcuse(node, facts); e != None {
		return e
	}
	if _, ready := ReadyCondition(node); ready == nil || ready.Status != corev1.ConditionTrue {
		return Masked
	}
	return None
}

const (
	nodeExcused      = "the node is leaving (deleted; tainted by an autoscaler, Karpenter or its provider), or has never been ready and is younger than 10 min"
	conditionExcused = nodeExcused + "; it is not ready (node_not_ready)"
)

// conditionFinding is what is found of a condition that is True and should not be.
func conditionFinding(node *corev1.Node, i int, hold time.Duration) Finding {
	c := &node.Status.Conditions[i]
	path := fmt.Sprintf("status.conditions[%d]", i)
	f := Finding{
		Part: string(c.Type), Reason: string(c.Type), Hold: hold,
		Description: fmt.Sprintf("node %s has %s", node.Name, c.Type),
		Evidence:    []heal.Evidence{{Path: path + ".status", Value: string(c.Status)}},
		Metadata:    map[string]string{"condition": string(c.Type)},
	}
	if c.Reason != "" {
		f.Evidence = append(f.Evidence, heal.Evidence{Path: path + ".reason", Value: c.Reason})
	}
	if c.Message != "" {
		f.Description += ": " + c.Message
		f.Evidence = append(f.Evidence, heal.Evidence{Path: path + ".message", Value: c.Message})
	}
	return f
}

// conditionOver reports whether a node says that a condition is over. One that
// it does not report any more is none.
func conditionOver(node *corev1.Node, part string) bool {
	for i := range node.Status.Conditions {
		if string(node.Status.Conditions[i].Type) == part {
			return node.Status.Conditions[i].Status == corev1.ConditionFalse
		}
	}
	return true
}

// placed adds to every finding what its node is for, and who else looks after
// it: both decide what may be done.
func placed(list []Detector[*corev1.Node]) []Detector[*corev1.Node] {
	for i := range list {
		find := list[i].Find
		list[i].Find = func(node *corev1.Node, facts Facts) []Finding {
			found := find(node, facts)
			for j := range found {
				if found[j].Metadata == nil {
					found[j].Metadata = map[string]string{}
				}
				if controlPlane(node) {
					found[j].Metadata["control_plane"] = "true"
				}
				if by := provider(node); by != "" {
					found[j].Metadata["provider"] = by
				}
			}
			return found
		}
	}
	return list
}

// ControlPlaneLabels mark the nodes that run the cluster itself (N12).
var ControlPlaneLabels = []string{"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"}

func controlPlane(node *corev1.Node) bool {
	return slices.ContainsFunc(ControlPlaneLabels, func(key string) bool { _, ok := node.Labels[key]; return ok })
}

// ProviderMarks are the labels and annotations of those who make nodes, and
// replace them by themselves, with their names.
var ProviderMarks = map[string]string{
	"karpenter.sh/nodepool":            "karpenter",
	"cluster.x-k8s.io/machine":         "cluster-api",
	"machine.openshift.io/machine":     "machine-api",
	"node.gardener.cloud/machine-name": "gardener",
	"eks.amazonaws.com/nodegroup":      "eks",
	"cloud.google.com/gke-nodepool":    "gke",
	"kubernetes.azure.com/agentpool":   "aks",
}

// provider is who makes and replaces the node, as far as its marks tell.
func provider(node *corev1.Node) string {
	for _, key := range slices.Sorted(maps.Keys(ProviderMarks)) {
		_, label := node.Labels[key]
		_, annotation := node.Annotations[key]
		if label || annotation {
			return ProviderMarks[key]
		}
	}
	return ""
}
