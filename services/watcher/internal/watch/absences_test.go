package watch

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

var midday = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func nodeThat(changes ...func(*corev1.Node)) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "uid-n1"},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Time{Time: midday.Add(-time.Hour)},
		}}},
	}
	for _, change := range changes {
		change(n)
	}
	return n
}

func isCordoned(n *corev1.Node) { n.Spec.Unschedulable = true }
func isSilent(n *corev1.Node)   { n.Status.Conditions[0].Status = corev1.ConditionUnknown }
func isGoing(n *corev1.Node) {
	n.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}}
}
func isNew(n *corev1.Node) {
	n.Status.Conditions[0].LastTransitionTime = metav1.Time{Time: midday.Add(-time.Minute)}
}

func TestNodesThatAreAwayAndWhetherPodsAreOnTheirWayAreCounted(t *testing.T) {
	type seen struct {
		at   time.Duration
		node *corev1.Node
	}
	type counted struct {
		Away     int
		Draining bool
	}
	tests := []struct {
		name string
		seen []seen
		at   time.Duration
		want counted
	}{
		{name: "well", seen: []seen{{0, nodeThat()}}, want: counted{}},
		{name: "cordoned", seen: []seen{{0, nodeThat(isCordoned)}}, want: counted{1, true}},
		{name: "not ready", seen: []seen{{0, nodeThat(isSilent)}}, want: counted{1, true}},
		{name: "taken away by an autoscaler", seen: []seen{{0, nodeThat(isGoing)}}, want: counted{1, true}},
		{name: "cordoned an hour ago, and forgotten", seen: []seen{{0, nodeThat(isCordoned)}, {50 * time.Minute, nodeThat(isCordoned)}}, at: time.Hour, want: counted{1, false}},
		{name: "in use again", seen: []seen{{0, nodeThat(isCordoned)}, {time.Minute, nodeThat()}}, at: 2 * time.Minute, want: counted{1, true}},
		{name: "in use again for long enough", seen: []seen{{0, nodeThat(isCordoned)}, {time.Minute, nodeThat()}, {2 * time.Minute, nodeThat()}}, at: 6 * time.Minute, want: counted{}},
		{name: "new: nothing was taken away", seen: []seen{{0, nodeThat(isNew)}}, want: counted{1, false}},
		{name: "not so new any more", seen: []seen{{0, nodeThat(isNew)}}, at: 4 * time.Minute, want: counted{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var a absences
			for _, s := range tt.seen {
				a.note(s.node, midday.Add(s.at))
			}
			var got counted
			got.Away, got.Draining = a.count(midday.Add(tt.at))
			if got != tt.want {
				t.Errorf("counted %+v, want %+v", got, tt.want)
			}
			a.forget("uid-n1")
			if n, _ := a.count(midday.Add(tt.at)); n != 0 {
				t.Errorf("%d nodes are away after the only one was forgotten", n)
			}
		})
	}
}

func TestPodsOfACordonedNodeAreAskedForOnlyWhileSomeBudgetBlocks(t *testing.T) {
	var a absences
	ask := func(at time.Duration) string {
		_, name := a.next(midday.Add(at))
		return name
	}
	a.note(nodeThat(isCordoned), midday)
	a.note(nodeThat(isSilent, func(n *corev1.Node) { n.UID, n.Name = "uid-n2", "n2" }), midday)
	if got := ask(0); got != "" {
		t.Errorf("asks about %q without a budget that blocks", got)
	}
	a.budgets = map[string]budget{"uid-b": {}}
	var got []string
	for _, at := range []time.Duration{0, time.Minute, askPodsAgain - time.Second, askPodsAgain} {
		got = append(got, ask(at))
	}
	if diff := cmp.Diff([]string{"n1", "", "", "n1"}, got); diff != "" {
		t.Errorf("asked about (-want +got):\n%s", diff)
	}

	a.nodes["uid-n1"].held = map[string][]detect.Held{"uid-b": {{Pod: "db-0", Node: "n1"}}}
	if released := a.note(nodeThat(isCordoned), midday); released != nil || len(a.heldBy("uid-b")) != 1 {
		t.Errorf("released %v of a node that is still cordoned, held %v", released, a.heldBy("uid-b"))
	}
	if released := a.note(nodeThat(), midday); !slices.Equal(released, []string{"uid-b"}) || a.heldBy("uid-b") != nil {
		t.Errorf("released %v of a node that is in use again, held %v", released, a.heldBy("uid-b"))
	}
}

func TestHeldArePodsThatADrainWouldEvictAndABudgetProtects(t *testing.T) {
	pod := func(name string, change ...func(*corev1.Pod)) *corev1.Pod {
		p := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", Labels: map[string]string{"app": "db"}},
			Spec:       corev1.PodSpec{NodeName: "n1"},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		}
		for _, f := range change {
			f(p)
		}
		return p
	}
	yes := true
	pods := []*corev1.Pod{
		pod("ready"),
		pod("unready", func(p *corev1.Pod) { p.Status.Conditions = nil }),
		pod("elsewhere", func(p *corev1.Pod) { p.Spec.NodeName = "n2" }),
		pod("another", func(p *corev1.Pod) { p.Labels = nil }),
		pod("neighbour", func(p *corev1.Pod) { p.Namespace = "bank" }),
		pod("done", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }),
		pod("failed", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }),
		pod("going", func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: midday}; p.Finalizers = []string{"x/y"} }),
		pod("static", func(p *corev1.Pod) { p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"} }),
		pod("daemon", func(p *corev1.Pod) {
			p.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Name: "agent", UID: types.UID("uid-agent"), Controller: &yes}}
		}),
	}
	got := map[string][]detect.Held{}
	for _, p := range pods {
		addHeld(got, p, "n1", map[string]budget{
			"uid-db":   {namespace: "shop", selector: labels.SelectorFromSet(labels.Set{"app": "db"})},
			"uid-none": {namespace: "shop", selector: labels.Nothing()},
		})
	}
	want := map[string][]detect.Held{"uid-db": {{Pod: "ready", Node: "n1", Ready: true}, {Pod: "unready", Node: "n1"}}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("held (-want +got):\n%s", diff)
	}
}
