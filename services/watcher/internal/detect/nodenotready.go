package detect

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// nodeNotReady finds nodes whose kubelet says that they are not ready (N1), or
// says nothing at all (N2). Silence is the absence of news, not of the node;
// the reason keeps the two apart, and a kubelet that cannot follow its
// containers any more (N13) from both.
var nodeNotReady = Detector[*corev1.Node]{
	Name: "node_not_ready",
	Row:  "N1, N2, N13",
	Type: heal.NodeFailure,

	Reasons: []string{"KubeletNotReady", "NodeStatusUnknown", plegUnhealthy}, // or as the condition says
	Hold:    "`node_failure_threshold` × `node_check_interval`",
	Excused: nodeExcused + "; " + tendedExcused + "; it has never been ready (node_never_ready)",

	Find:   findNodeNotReady,
	Excuse: notReadyExcuse,
	Clear:  func(t Thresholds) time.Duration { return t.NodeCheckInterval },
}

const plegUnhealthy = "PLEGUnhealthy"

var camelCase = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,63}$`)

func findNodeNotReady(node *corev1.Node, facts Facts) []Finding {
	i, ready := ReadyCondition(node)
	if ready == nil || ready.Status == corev1.ConditionTrue || neverReady(node, facts) {
		return nil
	}
	reason, state := "KubeletNotReady", "is not ready"
	if ready.Status != corev1.ConditionFalse {
		reason, state = "NodeStatusUnknown", "is unreachable"
	}
	if camelCase.MatchString(ready.Reason) {
		reason = ready.Reason
	}
	if ready.Status == corev1.ConditionFalse && strings.Contains(ready.Message, "PLEG is not healthy") {
		reason = plegUnhealthy
	}
	path := fmt.Sprintf("status.conditions[%d]", i)
	f := Finding{
		Reason:      reason,
		Hold:        time.Duration(facts.NodeFailureThreshold) * facts.NodeCheckInterval,
		Description: fmt.Sprintf("node %s %s: %s", node.Name, state, reason),
		Evidence: []heal.Evidence{
			{Path: path + ".status", Value: string(ready.Status)},
			{Path: path + ".reason", Value: ready.Reason},
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
	if node.Spec.Unschedulable {
		f.Metadata["unschedulable"] = "true"
	}
	return []Finding{f}
}

// tellingTaints lists the taints that Kubernetes itself and cloud providers
// put on a node in trouble; those that place workloads say nothing here.
func tellingTaints(taints []corev1.Taint) string {
	var keys []string
	for _, t := range taints {
		if strings.HasPrefix(t.Key, "node.kubernetes.io/") || strings.HasPrefix(t.Key, "node.cloudprovider.kubernetes.io/") {
			keys = append(keys, t.Key+":"+string(t.Effect))
		}
	}
	slices.Sort(keys)
	return strings.Join(keys, ",")
}
