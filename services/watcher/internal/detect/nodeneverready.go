package detect

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// nodeNeverReady finds nodes that have not once been ready since they came.
// There is nothing on them to be saved, and whoever makes nodes gives up such
// a one by himself; so node_not_ready is silent about them.
var nodeNeverReady = Detector[*corev1.Node]{
	Name: "node_never_ready",
	Row:  "N9",
	Type: heal.NodeFailure,

	Reasons: []string{"NodeNeverReady"},
	Hold:    "none, from 15 min after the node came",
	Excused: "the node is leaving (deleted; tainted by an autoscaler, Karpenter or its provider), or younger than 15 min; " + tendedExcused,

	Find: func(node *corev1.Node, facts Facts) []Finding {
		if !neverReady(node, facts) {
			return nil
		}
		i, ready := ReadyCondition(node)
		path := fmt.Sprintf("status.conditions[%d]", i)
		f := Finding{
			Reason:      "NodeNeverReady",
			Description: fmt.Sprintf("node %s has never been ready since it came", node.Name),
			Evidence: []heal.Evidence{
				{Path: "metadata.creationTimestamp", Value: node.CreationTimestamp.UTC().Format(time.RFC3339)},
				{Path: path + ".status", Value: string(ready.Status)},
				{Path: path + ".lastTransitionTime", Value: ready.LastTransitionTime.UTC().Format(time.RFC3339)},
			},
			Metadata: map[string]string{"ready_status": string(ready.Status)},
		}
		if ready.Message != "" {
			f.Description += ": " + ready.Message
			f.Evidence = append(f.Evidence, heal.Evidence{Path: path + ".message", Value: ready.Message})
		}
		if t := tellingTaints(node.Spec.Taints); t != "" {
			f.Metadata["taints"] = t
		}
		return []Finding{f}
	},
	Excuse: func(node *corev1.Node, facts Facts) Excuse {
		if e := nodeExcuse(node, facts); e == Leaving {
			return e
		}
		if Tended(node) || facts.Now.Sub(node.CreationTimestamp.Time) < neverReadyAge {
			return Masked
		}
		return None
	},
	Clear: func(t Thresholds) time.Duration { return t.NodeCheckInterval },
}

const neverReadyAge = 15 * time.Minute

// neverReady reports whether a node has not once been ready: neither did we
// see it so, nor does its condition tell of a change after it came up. (A node
// that has been ready for less than nodeBootstrap before we looked for the
// first time is taken for one, too.)
func neverReady(node *corev1.Node, facts Facts) bool {
	_, ready := ReadyCondition(node)
	return !facts.SeenReady && ready != nil && ready.Status != corev1.ConditionTrue && !ready.LastTransitionTime.IsZero() &&
		ready.LastTransitionTime.Sub(node.CreationTimestamp.Time) < nodeBootstrap
}
