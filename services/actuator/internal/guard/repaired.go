package guard

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// RepairedByOther is the reason why a node is left to another system.
const RepairedByOther = "RepairedByOther"

// repairers are systems that take nodes away or repair them, and how a node
// shows that one of them is at work on it. Two who repair fight each other.
var repairers = []struct {
	name        string
	taints      []string // what their keys begin with
	annotations []string // any value
	conditions  []string // that are True
}{
	{name: "the cluster autoscaler", taints: []string{"ToBeDeletedByClusterAutoscaler"}},
	{name: "Karpenter", taints: []string{"karpenter.sh/disrupted", "karpenter.sh/disruption"}},
	{name: "medik8s", taints: []string{"medik8s.io/remediation", "medik8s.io/drain"}},
	{name: "the AWS node termination handler", taints: []string{"aws-node-termination-handler/"}},
	{name: "Google Cloud", taints: []string{"cloud.google.com/impending-node-termination"}},
	{name: "draino", conditions: []string{"DrainScheduled"}},
	{name: "kured", annotations: []string{"weave.works/kured-reboot-in-progress", "kured.dev/reboot-in-progress"}},
	{name: "Gardener", annotations: []string{"node.machine.sapcloud.io/trigger-deletion-by-mcm"}},
}

// annotationOut, or the label of that name, says that a person wants a node
// left alone (https://www.medik8s.io/remediation).
const annotationOut = "remediation.medik8s.io/exclude-from-remediation"

// repaired refuses a node that another system is repairing or taking away.
var repaired = Guard{Name: "repaired", Judge: func(f Facts) Verdict {
	if f.Node == nil {
		return Allow("%s is not a node", f.Target)
	}
	for _, r := range repairers {
		for _, t := range f.Node.Spec.Taints {
			if slices.ContainsFunc(r.taints, func(prefix string) bool { return strings.HasPrefix(t.Key, prefix) }) {
				return Veto(RepairedByOther, "%s is left to %s, which has tainted it with %s", f.Target, r.name, heal.Clean(t.Key, 128))
			}
		}
		for _, key := range r.annotations {
			if _, ok := f.Node.Annotations[key]; ok {
				return Veto(RepairedByOther, "%s is left to %s, which has annotated it with %s", f.Target, r.name, key)
			}
		}
		for _, c := range f.Node.Status.Conditions {
			if c.Status == corev1.ConditionTrue && slices.Contains(r.conditions, string(c.Type)) {
				return Veto(RepairedByOther, "%s is left to %s, which has set its condition %s", f.Target, r.name, c.Type)
			}
		}
	}
	if _, ok := f.Node.Labels[annotationOut]; ok {
		return Veto("ExcludedFromRepair", "%s carries the label %s: whoever set it wants it left alone", f.Target, annotationOut)
	}
	return Allow("no other system is known to repair %s", f.Target)
}}
