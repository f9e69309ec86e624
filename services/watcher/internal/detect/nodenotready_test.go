package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestNodeThatIsNotReadyIsFoundWithWhatItsConditionSays(t *testing.T) {
	ready := func(status corev1.ConditionStatus, reason, message string) corev1.NodeStatus {
		return corev1.NodeStatus{Conditions: []corev1.NodeCondition{
			{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse},
			{Type: corev1.NodeReady, Status: status, Reason: reason, Message: message},
		}}
	}
	tests := []struct {
		name   string
		spec   corev1.NodeSpec
		status corev1.NodeStatus
		want   []Finding
	}{
		{
			name:   "the kubelet says so (N1)",
			status: ready(corev1.ConditionFalse, "KubeletNotReady", "container runtime is down"),
			want: []Finding{{
				Reason: "KubeletNotReady", Hold: 90 * time.Second,
				Description: "node n1 is not ready: KubeletNotReady: container runtime is down",
				Evidence: []heal.Evidence{
					{Path: "status.conditions[1].status", Value: "False"},
					{Path: "status.conditions[1].reason", Value: "KubeletNotReady"},
					{Path: "status.conditions[1].message", Value: "container runtime is down"},
				},
				Metadata: map[string]string{"ready_status": "False"},
			}},
		},
		{
			name: "the kubelet says nothing (N2), and Kubernetes has put up its marks",
			spec: corev1.NodeSpec{Unschedulable: true, Taints: []corev1.Taint{
				{Key: "node.kubernetes.io/unreachable", Effect: corev1.TaintEffectNoSchedule},
				{Key: "dedicated", Value: "db", Effect: corev1.TaintEffectNoSchedule},
				{Key: "node.kubernetes.io/unreachable", Effect: corev1.TaintEffectNoExecute},
			}},
			status: ready(corev1.ConditionUnknown, "NodeStatusUnknown", ""),
			want: []Finding{{
				Reason: "NodeStatusUnknown", Hold: 90 * time.Second,
				Description: "node n1 is unreachable: NodeStatusUnknown",
				Evidence: []heal.Evidence{
					{Path: "status.conditions[1].status", Value: "Unknown"},
					{Path: "status.conditions[1].reason", Value: "NodeStatusUnknown"},
				},
				Metadata: map[string]string{
					"ready_status":  "Unknown",
					"taints":        "node.kubernetes.io/unreachable:NoExecute,node.kubernetes.io/unreachable:NoSchedule",
					"unschedulable": "true",
				},
			}},
		},
		{
			name:   "a reason that is no reason is replaced, and kept as evidence",
			status: ready(corev1.ConditionFalse, "it is\nbroken", ""),
			want: []Finding{{
				Reason: "KubeletNotReady", Hold: 90 * time.Second,
				Description: "node n1 is not ready: KubeletNotReady",
				Evidence: []heal.Evidence{
					{Path: "status.conditions[1].status", Value: "False"},
					{Path: "status.conditions[1].reason", Value: "it is\nbroken"},
				},
				Metadata: map[string]string{"ready_status": "False"},
			}},
		},
		{name: "ready", status: ready(corev1.ConditionTrue, "KubeletReady", "")},
		{name: "nothing reported yet", status: corev1.NodeStatus{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: tt.spec, Status: tt.status}
			got := nodeNotReady.Find(node, Facts{Thresholds: defaults})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("findings (-want +got):\n%s", diff)
			}
		})
	}
}
