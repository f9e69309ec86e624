package detect

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// forgottenCordon finds nodes that we cordoned a day ago and that are well. A
// cordon that is not ours is somebody's will, and never found.
var forgottenCordon = Detector[*corev1.Node]{
	Name: "forgotten_cordon",
	Row:  "N10",
	Type: heal.NodeFailure,

	Severity: heal.Low, // nothing fails now

	Reasons: []string{"ForgottenCordon"},
	Hold:    "none, from 24 h after the cordon",
	Excused: conditionExcused + "; the cordon is not ours",

	Find: func(node *corev1.Node, facts Facts) []Finding {
		since := cordonedSince(node, facts)
		if !node.Spec.Unschedulable || !ours(node) || since.IsZero() || facts.Now.Sub(since) < cordonForgotten {
			return nil
		}
		f := Finding{
			Reason:      "ForgottenCordon",
			Description: fmt.Sprintf("node %s is well, but still cordoned by us, since %s", node.Name, since.UTC().Format(time.RFC3339)),
			Evidence: []heal.Evidence{
				{Path: "spec.unschedulable", Value: "true"},
				{Path: fmt.Sprintf("metadata.annotations['%s']", heal.AnnotationOwnedBy), Value: node.Annotations[heal.AnnotationOwnedBy]},
			},
			Metadata: map[string]string{"cordoned_since": since.UTC().Format(time.RFC3339)},
		}
		if d := node.Annotations[heal.AnnotationDecisionID]; d != "" {
			f.Metadata["decision_id"] = d
		}
		return []Finding{f}
	},
	Excuse: conditionExcuse,
}

const cordonForgotten = 24 * time.Hour

// ours reports whether we have marked a node as cordoned by us.
func ours(node *corev1.Node) bool {
	return node.Annotations[heal.AnnotationOwnedBy] == heal.FieldManager
}

// cordonedSince is since when a node is cordoned: Kubernetes notes that in the
// taint which follows from a cordon; if it does not, since when we see it.
func cordonedSince(node *corev1.Node, facts Facts) time.Time {
	for _, t := range node.Spec.Taints {
		if t.Key == corev1.TaintNodeUnschedulable && t.TimeAdded != nil {
			return t.TimeAdded.Time
		}
	}
	return facts.CordonSeen
}
