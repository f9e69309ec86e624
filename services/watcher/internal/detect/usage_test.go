package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestNodesThatUseTooMuchAreFound(t *testing.T) {
	const gib = 1 << 30
	cpu := Usage{Used: 3700, Of: 4000}
	memory := Usage{Used: 13 * gib, Of: 15 * gib}
	node := nodeWith(corev1.ConditionTrue)
	node.Status.Allocatable = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("15Gi")}
	pressed := nodeWith(corev1.ConditionTrue, corev1.NodeCondition{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionTrue})

	foundCPU := Finding{
		Part: "cpu", Reason: "NodeCPUHigh", Description: "node n1 uses 92 % of its CPU: 3.7 of 4.0 cores",
		Evidence: []heal.Evidence{{Path: "usage.cpu", Value: "3.7"}, {Path: "status.allocatable.cpu", Value: "4"}},
		Metadata: map[string]string{"percent": "92", "used": "3700", "of": "4000"},
	}
	foundMemory := Finding{
		Part: "memory", Reason: "NodeMemoryHigh", Description: "node n1 uses 86 % of its memory: 13Gi of 15Gi",
		Evidence: []heal.Evidence{{Path: "usage.memory", Value: "13Gi"}, {Path: "status.allocatable.memory", Value: "15Gi"}},
		Metadata: map[string]string{"percent": "86", "used": "13958643712", "of": "16106127360"},
	}
	for _, tt := range []struct {
		name  string
		node  *corev1.Node
		usage map[string]Usage
		want  []Finding
	}{
		{"nothing is known", node, nil, nil},
		{"CPU", node, map[string]Usage{"cpu": cpu}, []Finding{foundCPU}},
		{"memory", node, map[string]Usage{"memory": memory}, []Finding{foundMemory}},
		{"both", node, map[string]Usage{"cpu": cpu, "memory": memory}, []Finding{foundCPU, foundMemory}},
		{"memory of one that says so itself", pressed, map[string]Usage{"memory": memory}, nil},
	} {
		if diff := cmp.Diff(nodeUsage.Find(tt.node, Facts{Now: noon, Usage: tt.usage}), tt.want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", tt.name, diff)
		}
	}
}

func TestContainersNearTheirMemoryLimitAreFound(t *testing.T) {
	const mib = 1 << 20
	pod := func(state corev1.ContainerState) *corev1.Pod {
		return &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{
			{Name: "api", Ready: true, State: state}, {Name: "log", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
		}}}
	}
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	high := map[string]Usage{"api": {Used: 240 * mib, Of: 256 * mib}}
	done := pod(running)
	done.Status.Phase = corev1.PodSucceeded
	found := []Finding{{
		Part: "api", Reason: "ContainerMemoryNearLimit", Description: "container api uses 93 % of the memory that it may: 240Mi of 256Mi",
		Evidence: []heal.Evidence{{Path: "usage.memory", Value: "240Mi"}, {Path: "resources.limits.memory", Value: "256Mi"}},
		Metadata: map[string]string{"percent": "93", "used": "251658240", "of": "268435456", "container": "api"},
	}}
	for _, tt := range []struct {
		name  string
		pod   *corev1.Pod
		usage map[string]Usage
		want  []Finding
	}{
		{"nothing is known", pod(running), nil, nil},
		{"one of two", pod(running), high, found},
		{"a container that is not there", pod(running), map[string]Usage{"other": {Used: 9, Of: 10}}, nil},
		{"one that waits", pod(corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}), high, nil},
		{"of a pod that is done", done, high, nil},
	} {
		if diff := cmp.Diff(memoryNearLimit.Find(tt.pod, Facts{Now: noon, Thresholds: defaults, Usage: tt.usage}), tt.want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", tt.name, diff)
		}
	}
}

func TestVolumesThatFillAreFound(t *testing.T) {
	const gib = 1 << 30
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: "data-0"},
		Spec:       corev1.PersistentVolumeClaimSpec{VolumeName: "pv-1"},
		Status:     corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound},
	}
	found := func(description string, more map[string]string) []Finding {
		f := Finding{
			Reason: "VolumeNearlyFull", Description: description,
			Evidence: []heal.Evidence{
				{Path: "status.phase", Value: "Bound"}, {Path: "spec.volumeName", Value: "pv-1"},
				{Path: "usage.used", Value: "9Gi"}, {Path: "usage.capacity", Value: "10Gi"},
			},
			Metadata: map[string]string{"volume": "pv-1", "percent": "90", "used": "9663676416", "of": "10737418240"},
		}
		for k, v := range more {
			f.Metadata[k] = v
		}
		return []Finding{f}
	}
	for _, tt := range []struct {
		name  string
		usage map[string]Usage
		want  []Finding
	}{
		{"nothing is known", nil, nil},
		{"nearly full", map[string]Usage{"": {Used: 9 * gib, Of: 10 * gib}}, found("the volume of claim data-0 is 90 % full: 9Gi of 10Gi", nil)},
		{"full soon", map[string]Usage{"": {Used: 9 * gib, Of: 10 * gib, FullIn: 50 * time.Hour}},
			found("the volume of claim data-0 is 90 % full: 9Gi of 10Gi; nothing will be left in 50h0m0s if it goes on like this", map[string]string{"full_in": "50h0m0s"})},
	} {
		if diff := cmp.Diff(volumeFilling.Find(claim, Facts{Now: noon, Usage: tt.usage}), tt.want); diff != "" {
			t.Errorf("%s (-got +want):\n%s", tt.name, diff)
		}
	}
}
