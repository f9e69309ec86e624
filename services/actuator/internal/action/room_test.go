package action

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func asks(name, cpu, memory string, change ...func(*corev1.Pod)) need {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory),
		}}}}},
	}
	for _, c := range change {
		c(p)
	}
	return requests(p)
}

func has(cpu, memory int64, pods int64, change ...func(*corev1.Node)) space {
	n := &corev1.Node{}
	for _, c := range change {
		c(n)
	}
	return space{node: n, cpu: cpu * 1000, mem: memory << 30, pods: pods}
}

func TestWhetherPodsFindRoomElsewhere(t *testing.T) {
	tainted := func(n *corev1.Node) {
		n.Spec.Taints = []corev1.Taint{{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}}
	}
	tolerating := func(p *corev1.Pod) {
		p.Spec.Tolerations = []corev1.Toleration{{Key: "gpu", Operator: corev1.TolerationOpEqual, Value: "yes"}}
	}
	for _, tt := range []struct {
		name   string
		spaces []space
		pods   []need
		lacks  string // the pod that finds none; empty if all do
	}{
		{"nothing to move", nil, nil, ""},
		{"nowhere to go", nil, []need{asks("web", "1", "1Gi")}, "shop/web"},
		{"all on one node", []space{has(4, 8, 10)}, []need{asks("a", "2", "4Gi"), asks("b", "2", "4Gi")}, ""},
		{"too much memory", []space{has(4, 7, 10)}, []need{asks("a", "1", "4Gi"), asks("b", "1", "4Gi")}, "shop/b"},
		{"too much CPU", []space{has(1, 64, 10)}, []need{asks("a", "1500m", "1Gi")}, "shop/a (1500m cpu, 1Gi memory)"},
		{"too many pods", []space{has(4, 64, 1)}, []need{asks("a", "1", "1Gi"), asks("b", "1", "1Gi")}, "shop/b"},
		{"the sum fits, the largest does not", []space{has(4, 3, 9), has(4, 3, 9)}, []need{asks("a", "1", "4Gi")}, "shop/a"},
		{"the largest goes first", []space{has(4, 4, 9), has(4, 2, 9)}, []need{asks("small", "1", "2Gi"), asks("large", "1", "4Gi")}, ""},
		{"a taint keeps it away", []space{has(4, 8, 9, tainted)}, []need{asks("a", "1", "1Gi")}, "shop/a"},
		{"a toleration lets it in", []space{has(4, 8, 9, tainted)}, []need{asks("a", "1", "1Gi", tolerating)}, ""},
		{"a node selector keeps it away", []space{has(4, 8, 9)}, []need{asks("a", "1", "1Gi", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"disk": "ssd"} })}, "shop/a"},
		{"pods without requests need a place only", []space{has(0, 0, 1)}, []need{asks("a", "0", "0")}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fits, detail := hasRoom(tt.spaces, tt.pods)
			if fits != (tt.lacks == "") || !strings.Contains(detail, tt.lacks) {
				t.Errorf("fits %v, %q; want %q", fits, detail, tt.lacks)
			}
		})
	}
}

func TestAPodAsksForItsLargestInitContainerIfThatIsMore(t *testing.T) {
	n := asks("a", "1", "1Gi", func(p *corev1.Pod) {
		p.Spec.InitContainers = []corev1.Container{{Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
			corev1.ResourceMemory: resource.MustParse("3Gi"),
		}}}}
		p.Spec.Overhead = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}
	})
	if n.cpu != 1000 || n.mem != 4<<30 {
		t.Errorf("asks for %d millicores and %d bytes", n.cpu, n.mem)
	}
}
