package watch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

func TestHistoryOfANodeIsWhatWeSawOfIt(t *testing.T) {
	node := func(ready corev1.ConditionStatus, boot string, cordoned bool) *corev1.Node {
		return &corev1.Node{
			Spec: corev1.NodeSpec{Unschedulable: cordoned},
			Status: corev1.NodeStatus{
				NodeInfo:   corev1.NodeSystemInfo{BootID: boot},
				Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}},
			},
		}
	}
	ours := func(n *corev1.Node) *corev1.Node {
		n.Annotations = map[string]string{heal.AnnotationOwnedBy: heal.FieldManager}
		return n
	}
	const yes, no, unknown = corev1.ConditionTrue, corev1.ConditionFalse, corev1.ConditionUnknown
	minute := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }
	tests := []struct {
		name string
		seen []*corev1.Node // one a minute
		at   time.Time
		want detect.Facts
	}{
		{name: "never ready", seen: []*corev1.Node{node(no, "b1", false), node(unknown, "b1", false)}, at: minute(2)},
		{name: "ready at once is no change", seen: []*corev1.Node{node(yes, "b1", false)}, at: minute(1), want: detect.Facts{SeenReady: true}},
		{name: "silent instead of not ready is no change", seen: []*corev1.Node{node(yes, "", false), node(no, "", false), node(unknown, "", false)}, at: minute(3), want: detect.Facts{SeenReady: true, ReadyChanges: 1}},
		{name: "to and fro", seen: []*corev1.Node{node(yes, "", false), node(no, "", false), node(yes, "", false), node(no, "", false)}, at: minute(4), want: detect.Facts{SeenReady: true, ReadyChanges: 3}},
		{name: "to and fro, a while ago", seen: []*corev1.Node{node(yes, "", false), node(no, "", false), node(yes, "", false), node(no, "", false)}, at: minute(17), want: detect.Facts{SeenReady: true, ReadyChanges: 1}},
		{name: "booted anew", seen: []*corev1.Node{node(yes, "b1", false), node(yes, "b2", false), node(yes, "b2", false)}, at: minute(3), want: detect.Facts{SeenReady: true, Rebooted: minute(1)}},
		{name: "a boot id that is not told is none", seen: []*corev1.Node{node(yes, "b1", false), node(yes, "", false), node(yes, "b1", false)}, at: minute(3), want: detect.Facts{SeenReady: true}},
		{name: "cordoned", seen: []*corev1.Node{node(yes, "", false), node(yes, "", true), node(yes, "", true)}, at: minute(3), want: detect.Facts{SeenReady: true, CordonSeen: minute(1), InHand: minute(2)}},
		{name: "cordoned anew", seen: []*corev1.Node{node(yes, "", true), node(yes, "", false), node(yes, "", true)}, at: minute(3), want: detect.Facts{SeenReady: true, CordonSeen: minute(2), InHand: minute(2)}},
		{name: "cordoned no more", seen: []*corev1.Node{node(yes, "", true), node(yes, "", false)}, at: minute(2), want: detect.Facts{SeenReady: true, InHand: minute(1)}},
		{name: "coming up is no change", seen: []*corev1.Node{node(no, "", false), node(yes, "", false), node(no, "", false), node(yes, "", false)}, at: minute(4), want: detect.Facts{SeenReady: true, ReadyChanges: 2}},
		{name: "rebooted while it was cordoned by others", seen: []*corev1.Node{node(yes, "b1", true), node(unknown, "b1", true), node(yes, "b2", true), node(yes, "b2", false)}, at: minute(4), want: detect.Facts{SeenReady: true, InHand: minute(3)}},
		{name: "rebooted while it was cordoned by us", seen: []*corev1.Node{ours(node(yes, "b1", true)), ours(node(unknown, "b1", true)), ours(node(yes, "b2", true))}, at: minute(3), want: detect.Facts{SeenReady: true, ReadyChanges: 2, CordonSeen: minute(0), InHand: minute(2)}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var h nodeHistory
			for i, n := range tt.seen {
				h.note(n, minute(i))
			}
			got := detect.Facts{Now: tt.at}
			h.tell(&got)
			tt.want.Now = tt.at
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
		})
	}
}

func TestOfANodesMarksOnlyThoseThatSaySomethingAreKept(t *testing.T) {
	slim := slimNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{
		Labels: map[string]string{"node-role.kubernetes.io/control-plane": "canary", "eks.amazonaws.com/nodegroup": "canary", "team": "canary"},
		Annotations: map[string]string{
			heal.AnnotationOwnedBy: heal.FieldManager, heal.AnnotationDecisionID: "d-1", "cluster.x-k8s.io/machine": "canary", "note": "canary",
		},
	}}).(*corev1.Node)
	if diff := cmp.Diff(map[string]string{"node-role.kubernetes.io/control-plane": "", "eks.amazonaws.com/nodegroup": ""}, slim.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{heal.AnnotationOwnedBy: heal.FieldManager, heal.AnnotationDecisionID: "d-1", "cluster.x-k8s.io/machine": ""}, slim.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
}

func TestPackedNodeIsStillAllThatIsReadOfIt(t *testing.T) {
	at := metav1.Unix(1_800_000_000, 0)
	condition := func(kind corev1.NodeConditionType, status corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: kind, Status: status, Reason: "Because", Message: "of this", LastHeartbeatTime: at, LastTransitionTime: at}
	}
	full := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "0f3c7a52-5b1e-4c55-9d1f-0a4b5a1f7c11", ResourceVersion: "7", CreationTimestamp: at, Labels: map[string]string{karpenterPool: "default"}},
		Spec:       corev1.NodeSpec{Unschedulable: true, Taints: []corev1.Taint{{Key: "a", Effect: corev1.TaintEffectNoExecute, TimeAdded: &at}}},
		Status: corev1.NodeStatus{
			NodeInfo:    corev1.NodeSystemInfo{BootID: "b1", KubeletVersion: "v1.36.3", KernelVersion: "canary"},
			Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi")},
			Conditions:  []corev1.NodeCondition{condition(corev1.NodeReady, "False"), condition(corev1.NodeDiskPressure, "True"), condition(corev1.NodePIDPressure, "False"), condition("KernelDeadlock", "False")},
		},
	}
	want := full.DeepCopy()
	want.Status.NodeInfo.KernelVersion = ""
	want.Status.Conditions[2] = corev1.NodeCondition{Type: corev1.NodePIDPressure, Status: "False"}
	slim := slimNode(full).(*corev1.Node)
	for name, got := range map[string]metav1.Object{"slim": slim, "packed": shelfOf(nodes, slim).get(nameOf(slim))} {
		if diff := cmp.Diff(metav1.Object(want), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestNodeThatOwnsAStaticPodHasNoNamespace(t *testing.T) {
	yes := true
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Name: "etcd-n1", Namespace: "kube-system",
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "u1", Controller: &yes}},
	}}
	want := heal.Target{APIVersion: "v1", Kind: "Node", Name: "n1", UID: "u1"}
	if diff := cmp.Diff(want, controller(pod)); diff != "" {
		t.Errorf("owner (-want +got):\n%s", diff)
	}
}

func TestNodeThatIsGoneIsRememberedUntilItsPodsAreClearedAway(t *testing.T) {
	d := departed{}
	d.add("n1", noon)
	for at, want := range map[time.Duration]bool{0: true, 9 * time.Minute: true, 10 * time.Minute: false} {
		if got := d.has("n1", noon.Add(at)); got != want {
			t.Errorf("gone, %s later: %v, want %v", at, got, want)
		}
	}
	if d.has("n2", noon) {
		t.Error("a node that was never there is gone")
	}
	d.add("n2", noon.Add(time.Hour))
	if len(d) != 1 {
		t.Errorf("%d nodes are remembered, want those of late alone", len(d))
	}
}

func TestAnotherProcessKnowsOfANodeWhatItDoesNotSayItself(t *testing.T) {
	node := func(ready corev1.ConditionStatus, cordoned bool) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "u1"},
			Spec:       corev1.NodeSpec{Unschedulable: cordoned},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}},
		}
	}
	const yes, no = corev1.ConditionTrue, corev1.ConditionFalse
	minute := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }
	for _, tt := range []struct {
		name   string
		before []*corev1.Node // one a minute
		left   int            // when the first process ended
		after  *corev1.Node   // as the second one sees it first, a minute later
		saved  bool
		want   detect.Facts
	}{
		{"that nothing happened to", []*corev1.Node{node(yes, false)}, 1, node(yes, false), false, detect.Facts{SeenReady: true}},
		{"that was cordoned a moment ago", []*corev1.Node{node(yes, true), node(yes, false)}, 2, node(yes, false), true, detect.Facts{SeenReady: true, InHand: minute(1)}},
		{"that was cordoned a while ago", []*corev1.Node{node(yes, true), node(yes, false)}, 12, node(yes, false), false, detect.Facts{SeenReady: true}},
		{"whose cordon ended while nobody looked", []*corev1.Node{node(yes, true)}, 5, node(yes, false), true, detect.Facts{SeenReady: true, InHand: minute(6)}},
		{"that changes, once more while nobody looked", []*corev1.Node{node(yes, false), node(no, false), node(yes, false)}, 3, node(no, false), true, detect.Facts{SeenReady: true, ReadyChanges: 3}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := &nodeHistory{name: "n1"}
			for i, n := range tt.before {
				h.note(n, minute(i))
			}
			data := savedNodes(map[string]*nodeHistory{"u1": h}, minute(tt.left))
			if (data != nil) != tt.saved {
				t.Errorf("saved %q, want anything: %t", data, tt.saved)
			}
			past := nodePast{}
			if data != nil {
				if err := past.load(data, minute(tt.left)); err != nil {
					t.Fatal(err)
				}
			}
			again := past.of("u1", "n1")
			again.note(tt.after, minute(tt.left+1))
			got := detect.Facts{Now: minute(tt.left + 1)}
			again.tell(&got)
			tt.want.Now = got.Now
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
			if len(past) != 0 {
				t.Errorf("%d nodes are remembered twice", len(past))
			}
		})
	}
}

// What is stored is believed for ten minutes: it must not grow old while a node
// is in hand, nor be written each time that somebody looks.
func TestWhatIsStoredOfANodeInHandStaysYoung(t *testing.T) {
	h := &nodeHistory{inHand: true, lastInHand: noon}
	at := func(d time.Duration) string {
		return string(savedNodes(map[string]*nodeHistory{"u1": h}, noon.Add(d)))
	}
	if at(0) != at(time.Minute) || at(0) == at(history/2) {
		t.Errorf("%s, a minute later %s, after half the time that it is believed %s", at(0), at(time.Minute), at(history/2))
	}
}
