package watch

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

func TestCapacityIsThatOfNodesThatTakeAnyPod(t *testing.T) {
	node := func(name, cpu, memory string, change func(*corev1.Node)) *corev1.Node {
		n := &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-" + name)},
			Status: corev1.NodeStatus{
				Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
				Allocatable: corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory), "pods": resource.MustParse("110")},
			},
		}
		change(n)
		return n
	}
	taint := func(key string, effect corev1.TaintEffect) func(*corev1.Node) {
		return func(n *corev1.Node) { n.Spec.Taints = []corev1.Taint{{Key: key, Effect: effect}} }
	}
	as := func(*corev1.Node) {}
	fat, lean := node("fat", "4", "8Gi", as), node("lean", "2", "16Gi", as)
	const gi = 1 << 30
	two := detect.Capacity{
		Known: true, Nodes: 2,
		Allocatable: detect.Amount{CPU: 6000, Memory: 24 * gi}, Largest: detect.Amount{CPU: 4000, Memory: 16 * gi},
		Requested: detect.Amount{CPU: 1500, Memory: 3 * gi},
	}
	elastic := two
	elastic.Elastic = true
	three := detect.Capacity{
		Known: true, Nodes: 3,
		Allocatable: detect.Amount{CPU: 16000, Memory: 88 * gi}, Largest: detect.Amount{CPU: 10000, Memory: 64 * gi},
		Requested: detect.Amount{CPU: 10500, Memory: 53 * gi},
	}
	tests := []struct {
		name  string
		third *corev1.Node
		want  detect.Capacity
	}{
		{"any other counts", node("third", "10", "64Gi", as), three},
		{"cordoned", node("third", "10", "64Gi", func(n *corev1.Node) { n.Spec.Unschedulable = true }), two},
		{"for certain pods only", node("third", "10", "64Gi", taint("dedicated", corev1.TaintEffectNoSchedule)), two},
		{"for others if need be", node("third", "10", "64Gi", taint("dedicated", corev1.TaintEffectPreferNoSchedule)), three},
		{"not ready", node("third", "10", "64Gi", func(n *corev1.Node) { n.Status.Conditions[0].Status = corev1.ConditionUnknown }), two},
		{"about to be scaled away", node("third", "10", "64Gi", taint("ToBeDeletedByClusterAutoscaler", corev1.TaintEffectNoSchedule)), elastic},
		{"disrupted by Karpenter", node("third", "10", "64Gi", taint("karpenter.sh/disrupted", corev1.TaintEffectNoSchedule)), elastic},
		{"Karpenter's, and cordoned", node("third", "10", "64Gi", func(n *corev1.Node) {
			n.Labels, n.Spec.Unschedulable = map[string]string{karpenterPool: "default"}, true
		}), elastic},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var r rooms
			for _, n := range []*corev1.Node{fat, lean, tt.third} {
				r.put(slimNode(n).(*corev1.Node))
			}
			got := r.sum(func(node string) sum {
				return map[string]sum{"fat": {CPU: 1000, Memory: gi}, "lean": {CPU: 500, Memory: 2 * gi}, "third": {CPU: 9000, Memory: 50 * gi}}[node]
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("capacity (-want +got):\n%s", diff)
			}
		})
	}
}
