package guard

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestANodeThatAnotherSystemRepairsIsLeftToIt(t *testing.T) {
	taint := func(key string) *corev1.Node {
		return &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: key, Effect: corev1.TaintEffectNoSchedule}}}}
	}
	condition := func(status corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: "DrainScheduled", Status: status}}}}
	}
	for _, tt := range []struct {
		name   string
		node   *corev1.Node
		reason string
		says   string
	}{
		{"nobody", &corev1.Node{}, "", ""},
		{"Kubernetes' own taint", taint(corev1.TaintNodeUnreachable), "", ""},
		{"a candidate only", taint("DeletionCandidateOfClusterAutoscaler"), "", ""},
		{"the autoscaler deletes it", taint("ToBeDeletedByClusterAutoscaler"), RepairedByOther, "the cluster autoscaler"},
		{"Karpenter", taint("karpenter.sh/disrupted"), RepairedByOther, "Karpenter"},
		{"medik8s", taint("medik8s.io/remediation"), RepairedByOther, "medik8s"},
		{"a spot interruption", taint("aws-node-termination-handler/spot-itn"), RepairedByOther, "termination handler"},
		{"draino", condition(corev1.ConditionTrue), RepairedByOther, "draino"},
		{"draino is done", condition(corev1.ConditionFalse), "", ""},
		{"kured", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{"weave.works/kured-reboot-in-progress": "2026-11-22T12:00:00Z"}}}, RepairedByOther, "kured"},
		{"a person excluded it", &corev1.Node{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{annotationOut: ""}}}, "ExcludedFromRepair", "left alone"},
	} {
		v := repaired.Judge(Facts{Node: tt.node, Target: heal.Target{Kind: "Node", Name: "n1"}})
		if v.Reason != tt.reason || !strings.Contains(v.Detail, tt.says) {
			t.Errorf("%s: %q: %s, want %q and that it says %q", tt.name, v.Reason, v.Detail, tt.reason, tt.says)
		}
	}
	if v := repaired.Judge(Facts{}); !v.Allowed() {
		t.Errorf("what is not a node: %s", v.Detail)
	}
}
