package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func nodeWith(ready corev1.ConditionStatus, conditions ...corev1.NodeCondition) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{
		Conditions: append(conditions, corev1.NodeCondition{Type: corev1.NodeReady, Status: ready}),
	}}
}

func TestConditionsOfANodeThatShouldNotBeAreFound(t *testing.T) {
	condition := func(of corev1.NodeConditionType, status corev1.ConditionStatus, renewed time.Duration) corev1.NodeCondition {
		return corev1.NodeCondition{Type: of, Status: status, Reason: "Why", Message: "so", LastHeartbeatTime: metav1.Time{Time: noon.Add(-renewed)}}
	}
	found := func(of string, hold time.Duration) []Finding {
		return []Finding{{
			Part: of, Reason: of, Hold: hold, Description: "node n1 has " + of + ": so",
			Evidence: []heal.Evidence{
				{Path: "status.conditions[0].status", Value: "True"},
				{Path: "status.conditions[0].reason", Value: "Why"},
				{Path: "status.conditions[0].message", Value: "so"},
			},
			Metadata: map[string]string{"condition": of},
		}}
	}
	tests := []struct {
		name      string
		detector  Detector[*corev1.Node]
		condition corev1.NodeCondition
		want      []Finding
	}{
		{"short of memory", nodePressure, condition(corev1.NodeMemoryPressure, corev1.ConditionTrue, 0), found("MemoryPressure", 10*time.Minute)},
		{"short of disk", nodePressure, condition(corev1.NodeDiskPressure, corev1.ConditionTrue, 0), found("DiskPressure", 10*time.Minute)},
		{"short of process ids", nodePressure, condition(corev1.NodePIDPressure, corev1.ConditionTrue, 0), found("PIDPressure", 10*time.Minute)},
		{"not short", nodePressure, condition(corev1.NodePIDPressure, corev1.ConditionFalse, 0), nil},
		{"not known", nodePressure, condition(corev1.NodePIDPressure, corev1.ConditionUnknown, 0), nil},
		{"no network", networkUnavailable, condition(corev1.NodeNetworkUnavailable, corev1.ConditionTrue, 0), found("NetworkUnavailable", 5*time.Minute)},
		{"a network", networkUnavailable, condition(corev1.NodeNetworkUnavailable, corev1.ConditionFalse, 0), nil},
		{"read-only", nodeProblem, condition("ReadonlyFilesystem", corev1.ConditionTrue, 0), found("ReadonlyFilesystem", 0)},
		{"deadlock", nodeProblem, condition("KernelDeadlock", corev1.ConditionTrue, 14*time.Minute), found("KernelDeadlock", 5*time.Minute)},
		{"runtime", nodeProblem, condition("ContainerRuntimeUnhealthy", corev1.ConditionTrue, 0), found("ContainerRuntimeUnhealthy", 5*time.Minute)},
		{"kubelet", nodeProblem, condition("KubeletUnhealthy", corev1.ConditionTrue, 0), found("KubeletUnhealthy", 5*time.Minute)},
		{"reported by nobody any more", nodeProblem, condition("KernelDeadlock", corev1.ConditionTrue, 16*time.Minute), nil},
		{"somebody's own condition", nodeProblem, condition("GPUMissing", corev1.ConditionTrue, 0), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.detector.Find(nodeWith(corev1.ConditionTrue, tt.condition), Facts{Now: noon, Thresholds: defaults})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestConditionIsOverOnlyWhenTheNodeSaysSo(t *testing.T) {
	deadlock := func(status corev1.ConditionStatus) *corev1.Node {
		return nodeWith(corev1.ConditionTrue, corev1.NodeCondition{Type: "KernelDeadlock", Status: status})
	}
	for name, tt := range map[string]struct {
		node *corev1.Node
		want bool
	}{
		"it says so":               {deadlock(corev1.ConditionFalse), true},
		"it is reported by nobody": {deadlock(corev1.ConditionTrue), false},
		"it is not known":          {deadlock(corev1.ConditionUnknown), false},
		"it is not there any more": {nodeWith(corev1.ConditionTrue), true},
	} {
		if got := nodeProblem.Well(tt.node, "KernelDeadlock"); got != tt.want {
			t.Errorf("%s: Well = %v, want %v", name, got, tt.want)
		}
	}
}

func TestOnlyNodeNotReadySpeaksForANodeThatIsNotReady(t *testing.T) {
	for _, d := range Nodes {
		want := Masked
		if d.Name == "node_not_ready" || d.Name == "node_never_ready" { // which finds what the former does not
			want = None
		}
		if got := d.Excuse(nodeWith(corev1.ConditionUnknown), Facts{Now: noon, SeenReady: true}); got != want {
			t.Errorf("%s: excuse %v, want %v", d.Name, got, want)
		}
		if got := d.Excuse(nodeWith(corev1.ConditionTrue), Facts{Now: noon, SeenReady: true}); got != None {
			t.Errorf("%s: excuse %v of a node that is ready, want %v", d.Name, got, None)
		}
	}
}
