package verify

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
)

// seen is what of a sight these tests are about.
type seen struct {
	State  State
	Reason string
}

func TestAVolumeHasGrownWhenItsClaimSaysSo(t *testing.T) {
	claim := func(asked, has string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
		c := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{UID: "c1"}}
		c.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(asked)}
		c.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(has)}
		for _, f := range change {
			f(c)
		}
		return c
	}
	infeasible := func(c *corev1.PersistentVolumeClaim) {
		c.Status.AllocatedResourceStatuses = map[corev1.ResourceName]corev1.ClaimResourceStatus{
			corev1.ResourceStorage: corev1.PersistentVolumeClaimControllerResizeInfeasible}
	}
	for _, tt := range []struct {
		name  string
		claim *corev1.PersistentVolumeClaim
		want  seen
	}{
		{"it has", claim("12Gi", "12Gi"), seen{Good, "Verified"}},
		{"it has more", claim("13Gi", "13Gi"), seen{Good, "Verified"}},
		{"not yet", claim("12Gi", "10Gi"), seen{Pending, ""}},
		{"never", claim("12Gi", "10Gi", infeasible), seen{Bad, "ExpansionFailed"}},
		{"somebody took it back", claim("10Gi", "10Gi"), seen{Bad, "Overridden"}},
		{"it is gone", nil, seen{Moot, "NoLongerWanted"}},
		{"it is another", claim("12Gi", "12Gi", func(c *corev1.PersistentVolumeClaim) { c.UID = "c2" }), seen{Moot, "NoLongerWanted"}},
	} {
		s := Expansion{Target: heal.Target{Kind: "PersistentVolumeClaim", Name: "data", UID: "c1"}, Claim: tt.claim, Size: "12Gi"}.Judge()
		if diff := cmp.Diff(tt.want, seen{s.State, s.Reason}); diff != "" {
			t.Errorf("%s (-want +got):\n%s%s", tt.name, diff, s.Message)
		}
	}
}

func TestANodeIsRelievedWhenItSaysSoAndItsPodsRunElsewhere(t *testing.T) {
	node := func(status corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{UID: "n1"},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: status}}}}
	}
	moved := []Workload{{Target: heal.Target{Name: "web"}, Wanted: 2, Ready: 2}}
	missing := []Workload{{Target: heal.Target{Name: "web"}, Wanted: 2, Ready: 1}}
	for _, tt := range []struct {
		name      string
		node      *corev1.Node
		workloads []Workload
		want      seen
		late      string
	}{
		{"both", node(corev1.ConditionFalse), moved, seen{Good, "Verified"}, ""},
		{"a pod is missing", node(corev1.ConditionFalse), missing, seen{Pending, ""}, ""},
		{"still under pressure", node(corev1.ConditionTrue), moved, seen{Pending, ""}, "PressureRemains"},
		{"the node is gone", nil, moved, seen{Moot, "NoLongerWanted"}, ""},
	} {
		s := Pressure{Target: heal.Target{Kind: "Node", Name: "a", UID: "n1"}, Node: tt.node, Reason: "MemoryPressure", Workloads: tt.workloads}.Judge()
		late := ""
		if s.Late != nil {
			late = s.Late.Reason
		}
		if diff := cmp.Diff(tt.want, seen{s.State, s.Reason}); diff != "" || late != tt.late {
			t.Errorf("%s: late %q, want %q (-want +got):\n%s", tt.name, late, tt.late, diff)
		}
	}
}

func TestARolloutWhosePodsRestartIsNotStable(t *testing.T) {
	pods := func(uid types.UID, restarts int32) []corev1.Pod {
		return []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{UID: uid},
			Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{RestartCount: restarts}}}}}
	}
	subject := func(p []corev1.Pod) string { return RestartsOf(p).add(Sight{State: Good}).Subject }
	if again := pods("x", 1); subject(again) != subject(pods("x", 1)) {
		t.Error("the same pods with the same restarts are not the same subject")
	}
	if subject(pods("x", 1)) == subject(pods("x", 2)) {
		t.Error("a restart changes nothing")
	}
	if subject(pods("x", 1)) == subject(pods("y", 1)) {
		t.Error("a replaced pod changes nothing")
	}
}
