package sim

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestANodeReportsWhatItsAnnotationsAsk(t *testing.T) {
	type conditions map[corev1.NodeConditionType]corev1.ConditionStatus
	for _, test := range []struct {
		name        string
		annotations map[string]string
		want        conditions
	}{
		{"all is well", nil, conditions{"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "NetworkUnavailable": "False", "Ready": "True"}},
		{"pressure", map[string]string{AnnotationPressure: "DiskPressure, PIDPressure"},
			conditions{"MemoryPressure": "False", "DiskPressure": "True", "PIDPressure": "True", "NetworkUnavailable": "False", "Ready": "True"}},
		{"not ready", map[string]string{AnnotationNotReady: "container runtime is down"},
			conditions{"MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "NetworkUnavailable": "False", "Ready": "False"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := NewNode("node-1", "zone-1", nil)
			n.Annotations = test.annotations
			got := make(conditions)
			for _, c := range JudgeNode(nil, "172.18.0.2", n, began).Conditions {
				got[c.Type] = c.Status
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("conditions (-want +got):\n%s", diff)
			}
		})
	}
}

func TestANodeIsWrittenOnlyWhenSomethingIsNew(t *testing.T) {
	n := NewNode("node-1", "zone-1", map[string]string{"disk": "ssd"})
	capacity := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("32")}
	n.Status = *JudgeNode(capacity, "172.18.0.2", n, began)
	if got := JudgeNode(capacity, "", n, began.Add(time.Minute)); got != nil {
		t.Errorf("a minute later it writes %v", got)
	}
	if JudgeNode(capacity, "", n, began.Add(heartbeatShown)) == nil {
		t.Errorf("its heartbeat times are never written")
	}
	for i := range n.Status.Conditions {
		n.Status.Conditions[i].Status = corev1.ConditionUnknown // as the node lifecycle controller does
	}
	n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{Type: "KernelDeadlock", Status: corev1.ConditionTrue})
	s := JudgeNode(capacity, "", n, began.Add(time.Minute))
	if s == nil || !Ready(&corev1.Node{Status: *s}) {
		t.Fatalf("a node that came back reports %v", s)
	}
	if last := s.Conditions[len(s.Conditions)-1]; last.Type != "KernelDeadlock" || last.Status != corev1.ConditionTrue {
		t.Errorf("another writer's condition became %v", last)
	}
	want := map[string]string{
		LabelNode: "true", "disk": "ssd", "kubernetes.io/hostname": "node-1", "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux",
		"node.kubernetes.io/instance-type": "simulated", "topology.kubernetes.io/zone": "zone-1", "topology.kubernetes.io/region": "region-1",
	}
	if diff := cmp.Diff(want, n.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}
