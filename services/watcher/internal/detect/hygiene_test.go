package detect

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestPodThatChangesOnPurposeIsExcused(t *testing.T) {
	condition := func(status corev1.ConditionStatus) corev1.PodStatus {
		return corev1.PodStatus{Conditions: []corev1.PodCondition{
			{Type: corev1.PodReady, Status: corev1.ConditionTrue},
			{Type: corev1.DisruptionTarget, Status: status},
		}}
	}
	tests := []struct {
		name  string
		pod   corev1.Pod
		facts Facts
		want  Excuse
	}{
		{name: "any other pod is not", want: None},
		{name: "scaled down, replaced or deleted", pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: noon}}}, want: Leaving},
		{name: "done", pod: corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}, want: Leaving},
		{name: "about to be disrupted", pod: corev1.Pod{Status: condition(corev1.ConditionTrue)}, want: Leaving},
		{name: "a disruption that was called off excuses nothing", pod: corev1.Pod{Status: condition(corev1.ConditionFalse)}, want: None},
		{name: "a mirror pod", pod: corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "x"}}}, want: Leaving},
		{name: "on a node that fails itself", facts: Facts{NodeFailing: true}, want: Masked},
		{name: "failed is not done", pod: corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed}}, want: None},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := crashLoop.Excuse(&tt.pod, tt.facts); got != tt.want {
				t.Errorf("excuse = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestNodeThatComesOrGoesOnPurposeIsExcused(t *testing.T) {
	tainted := func(key string) corev1.Node {
		return corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: "dedicated"}, {Key: key}}}}
	}
	aged := func(age time.Duration) corev1.Node {
		return corev1.Node{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: metav1.Time{Time: noon.Add(-age)}}}
	}
	cordoned := func(ready corev1.ConditionStatus, by string) corev1.Node {
		return corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{heal.AnnotationOwnedBy: by}},
			Spec:       corev1.NodeSpec{Unschedulable: true},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
		}
	}
	tests := []struct {
		name      string
		node      corev1.Node
		seenReady bool
		want      Excuse
	}{
		{name: "any other node is not", node: aged(time.Hour), want: None},
		{name: "deleted", node: corev1.Node{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: noon}}}, seenReady: true, want: Leaving},
		{name: "scaled down by cluster-autoscaler", node: tainted("ToBeDeletedByClusterAutoscaler"), seenReady: true, want: Leaving},
		{name: "disrupted by Karpenter", node: tainted("karpenter.sh/disrupted"), seenReady: true, want: Leaving},
		{name: "disrupted by an older Karpenter", node: tainted("karpenter.sh/disruption"), seenReady: true, want: Leaving},
		{name: "shut down by its provider", node: tainted("node.cloudprovider.kubernetes.io/shutdown"), seenReady: true, want: Leaving},
		{name: "a candidate for scaling down is not going yet", node: tainted("DeletionCandidateOfClusterAutoscaler"), seenReady: true, want: None},
		{name: "still starting", node: aged(9 * time.Minute), want: Masked},
		{name: "started long enough ago", node: aged(10 * time.Minute), want: None},
		{name: "young, but it has been ready", node: aged(time.Minute), seenReady: true, want: None},
		{name: "silent while people have cordoned it", node: cordoned(corev1.ConditionUnknown, ""), seenReady: true, want: Masked},
		{name: "ready while people have cordoned it: what began is over", node: cordoned(corev1.ConditionTrue, ""), seenReady: true, want: None},
		{name: "silent while we have cordoned it", node: cordoned(corev1.ConditionUnknown, heal.FieldManager), seenReady: true, want: None},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := nodeNotReady.Excuse(&tt.node, Facts{Now: noon, SeenReady: tt.seenReady}); got != tt.want {
				t.Errorf("excuse = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestRestartsAreCountedWithinTheWindowOnly(t *testing.T) {
	type seen struct {
		after time.Duration
		n     int
	}
	tests := []struct {
		name string
		seen []seen
		at   time.Duration
		want int
	}{
		{name: "none", want: 0},
		{name: "one by one", seen: []seen{{0, 1}, {time.Minute, 1}, {2 * time.Minute, 1}}, at: 2 * time.Minute, want: 3},
		{name: "several between two looks", seen: []seen{{0, 4}}, at: time.Second, want: 4},
		{name: "what has left the window is forgotten", seen: []seen{{0, 5}, {9 * time.Minute, 2}}, at: 10 * time.Minute, want: 2},
		{name: "all of it", seen: []seen{{0, 5}}, at: time.Hour, want: 0},
		{name: "an absurd jump is bounded", seen: []seen{{0, 1_000_000}, {time.Second, 2}}, at: time.Second, want: maxRestarts},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var tally Tally
			for _, s := range tt.seen {
				tally = tally.Add(s.n, noon.Add(s.after), RestartWindow)
			}
			if got := tally.Within(noon.Add(tt.at), RestartWindow); got != tt.want {
				t.Errorf("within the window = %d, want %d", got, tt.want)
			}
			if len(tally) > maxRestarts {
				t.Errorf("the tally holds %d times, want at most %d", len(tally), maxRestarts)
			}
		})
	}
}

func TestDetectorsHaveNamesOfTheirOwnAndAllThatIsRequired(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range Pods {
		check(t, seen, d)
	}
	for _, d := range Nodes {
		check(t, seen, d)
	}
	for _, d := range Deployments {
		check(t, seen, d)
	}
	for _, d := range StatefulSets {
		check(t, seen, d)
	}
	for _, d := range DaemonSets {
		check(t, seen, d)
	}
	for _, d := range Jobs {
		check(t, seen, d)
	}
	for _, d := range CronJobs {
		check(t, seen, d)
	}
	for _, d := range Autoscalers {
		check(t, seen, d)
	}
	for _, d := range Budgets {
		check(t, seen, d)
	}
	for _, d := range Services {
		check(t, seen, d)
	}
	for _, d := range ValidatingWebhooks {
		check(t, seen, d)
	}
	for _, d := range MutatingWebhooks {
		check(t, seen, d)
	}
	for _, d := range APIServices {
		check(t, seen, d)
	}
	for _, d := range Claims {
		check(t, seen, d)
	}
	for _, d := range Volumes {
		check(t, seen, d)
	}
	for _, d := range Attachments {
		check(t, seen, d)
	}
	for _, d := range Quotas {
		check(t, seen, d)
	}
	for _, d := range Namespaces {
		check(t, seen, d)
	}
}

func check[T any](t *testing.T, seen map[string]bool, d Detector[T]) {
	t.Helper()
	if seen[d.Name] {
		t.Errorf("two detectors are called %q; their episodes would be one", d.Name)
	}
	seen[d.Name] = true
	if d.Name == "" || d.Row == "" || d.Type.ActionType() == "" || d.Find == nil {
		t.Errorf("detector %q lacks a name, a row of the catalogue, a failure type, or Find", d.Name)
	}
	if len(d.Reasons) == 0 || d.Hold == "" || d.Excused == "" {
		t.Errorf("detector %q lacks what docs/failures.md says of it", d.Name)
	}
	for _, reason := range d.Reasons {
		if !camelCase.MatchString(reason) {
			t.Errorf("detector %q gives the reason %q, which is not CamelCase", d.Name, reason)
		}
	}
}
