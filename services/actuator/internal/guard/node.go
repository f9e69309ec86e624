package guard

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A NodeState is what guards need to know of each node of the cluster.
type NodeState struct {
	Name     string
	UID      string
	Zone     string
	Ready    bool
	Cordoned bool
	Ours     bool   // the cordon is, as far as the API server knows
	Decision string // which decision of ours cordoned it
}

// StateOf reads a node's state.
func StateOf(n *corev1.Node) NodeState {
	managers := CordonManagers(n)
	return NodeState{
		Name:     n.Name,
		UID:      string(n.UID),
		Zone:     n.Labels[corev1.LabelTopologyZone],
		Ready:    NodeReady(n),
		Cordoned: n.Spec.Unschedulable,
		Ours:     n.Spec.Unschedulable && slices.Contains(managers, heal.FieldManager),
		Decision: n.Annotations[heal.AnnotationDecisionID],
	}
}

// NodeReady reports whether the node's kubelet is heard of and says it is well.
func NodeReady(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// problems are the conditions that say, while they are True, that a node is
// broken though it is Ready: those of node-problem-detector that are announced
// as failures, and Kubernetes' own of the network.
var problems = []corev1.NodeConditionType{
	"ReadonlyFilesystem", "KernelDeadlock", "ContainerRuntimeUnhealthy", "KubeletUnhealthy", "FrequentKubeletRestart", "FrequentContainerdRestart",
	corev1.NodeNetworkUnavailable,
}

// unheard is for how long a problem may not have been renewed: then it is who
// reports it that may be dead. (node-problem-detector renews every 5 min.)
const unheard = 15 * time.Minute

// isProblem reports whether the condition says at now that its node is broken.
func isProblem(c corev1.NodeCondition, now time.Time) bool {
	return c.Status == corev1.ConditionTrue && slices.Contains(problems, c.Type) &&
		(c.LastHeartbeatTime.IsZero() || now.Sub(c.LastHeartbeatTime.Time) <= unheard)
}

// NodeWell reports whether the node is Ready at now and has no problem, and what
// shows it.
func NodeWell(n *corev1.Node, now time.Time) (bool, string) {
	well, seen := false, "it has no condition Ready"
	for _, c := range n.Status.Conditions {
		if isProblem(c, now) {
			return false, strings.TrimSpace(fmt.Sprintf("%s is %s: %s", c.Type, c.Status, heal.Clean(c.Reason, 64)))
		}
		if c.Type == corev1.NodeReady {
			well = c.Status == corev1.ConditionTrue
			seen = strings.TrimSpace(fmt.Sprintf("Ready is %s: %s", c.Status, heal.Clean(c.Reason, 64)))
		}
	}
	return well, seen
}

// CordonManagers names the field managers that own the node's cordon. It is
// the API server's own record, which no annotation can fake.
func CordonManagers(n *corev1.Node) []string {
	var managers []string
	for _, entry := range n.ManagedFields {
		var fields struct {
			Spec map[string]json.RawMessage `json:"f:spec"`
		}
		if entry.FieldsV1 == nil || entry.Subresource != "" || json.Unmarshal(entry.FieldsV1.GetRawBytes(), &fields) != nil {
			continue
		}
		if _, ok := fields.Spec["f:unschedulable"]; !ok {
			continue
		}
		name := entry.Manager
		if name == heal.FieldManager && entry.Operation != metav1.ManagedFieldsOperationApply {
			name += " (not by apply)" // somebody writes under our name; we only ever apply
		}
		managers = append(managers, name)
	}
	return managers
}
