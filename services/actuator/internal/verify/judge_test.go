package verify

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/pkg/heal"
)

var now = time.Date(2026, 11, 22, 12, 20, 0, 0, time.UTC)

func pod(uid string, made time.Time, change ...func(*corev1.Pod)) corev1.Pod {
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-" + uid, UID: types.UID(uid), CreationTimestamp: metav1.NewTime(made)},
		Spec:       corev1.PodSpec{NodeName: "a"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, c := range change {
		c(&p)
	}
	return p
}

func ready(p *corev1.Pod) {
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
}

func waits(reason string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "api", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}}}
	}
}

func going(since time.Time, finalizers ...string) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		at := metav1.NewTime(since)
		p.DeletionTimestamp, p.Finalizers = &at, finalizers
	}
}

func TestWhatBecameOfARemovedPod(t *testing.T) {
	made := now.Add(-time.Hour)
	sick := pod("old", made)
	// Another pod of the workload was made a moment before, so close that only
	// its UID tells it from a replacement.
	sibling := pod("sibling", now.Add(-time.Second), ready)
	before := Remember(&sick, heal.Target{Kind: "Pod", Namespace: "shop", Name: sick.Name, UID: "old"},
		heal.Target{Kind: "ReplicaSet", Namespace: "shop", Name: "web", UID: "r1"}, "app=web", []corev1.Pod{sick, sibling})
	stateful, daemon := before, before
	stateful.SameName = sick.Name
	daemon.SameNode = "a"

	for _, tt := range []struct {
		name   string
		before Before
		gone   bool // the controller is
		wanted int
		pods   []corev1.Pod
		want   State
		reason string
		says   string
	}{
		{"a replacement is Ready", before, false, 2, []corev1.Pod{sibling, pod("new", now, ready)}, Good, "Verified", "web-new is Ready on a"},
		{"a replacement made in the same second as a sibling", before, false, 2, []corev1.Pod{sibling, pod("new", sibling.CreationTimestamp.Time, ready)}, Good, "Verified", "web-new"},
		{"a replacement starts", before, false, 2, []corev1.Pod{sibling, pod("new", now, waits("ContainerCreating"))}, Pending, "", "ContainerCreating"},
		{"a replacement finds no node", before, false, 2, []corev1.Pod{sibling, pod("new", now, func(p *corev1.Pod) {
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available"}}
		})}, Pending, "", "0/3 nodes"},
		{"a replacement crashes too", before, false, 2, []corev1.Pod{sibling, pod("new", now, waits("CrashLoopBackOff"))}, Bad, "NotFixed", "CrashLoopBackOff"},
		{"a replacement's image cannot be pulled", before, false, 2, []corev1.Pod{sibling, pod("new", now, waits("ImagePullBackOff"))}, Bad, "NotFixed", "ImagePullBackOff"},
		{"one attempt to pull failed", before, false, 2, []corev1.Pod{sibling, pod("new", now, waits("ErrImagePull"))}, Pending, "", "ErrImagePull"},
		{"one of two replacements crashes", before, false, 3, []corev1.Pod{sibling, pod("new", now, ready), pod("newer", now, waits("CrashLoopBackOff"))}, Bad, "NotFixed", "web-newer"},
		{"a sibling is no replacement", before, false, 2, []corev1.Pod{sibling}, Pending, "", "no replacement"},
		{"the old pod is still there", before, false, 2, []corev1.Pod{sick, sibling}, Pending, "", "no replacement"},
		{"it takes its time to go", before, false, 1, []corev1.Pod{pod("old", made, going(now.Add(-time.Minute)))}, Pending, "", "still terminating"},
		{"it cannot go", before, false, 1, []corev1.Pod{pod("old", made, going(now.Add(-3*time.Minute), "example.com/held"))}, Bad, "StuckTerminating", "example.com/held"},
		{"it was replaced although it cannot go", before, false, 1, []corev1.Pod{pod("old", made, going(now.Add(-3*time.Minute))), pod("new", now, ready)}, Good, "Verified", ""},
		{"a replacement is on its way out again", before, false, 2, []corev1.Pod{sibling, pod("new", now, ready, going(now))}, Pending, "", ""},
		{"fewer are wanted by now", before, false, 1, []corev1.Pod{sibling}, Moot, "NoLongerWanted", "wants 1 pods"},
		{"none are wanted by now", before, false, 0, nil, Moot, "NoLongerWanted", "wants 0 pods"},
		{"the controller is gone", before, true, 0, nil, Moot, "NoLongerWanted", "is gone"},
		{"another member of a StatefulSet is new", stateful, false, 3, []corev1.Pod{sibling, pod("new", now, ready)}, Pending, "", ""},
		{"the member itself is new", stateful, false, 2, []corev1.Pod{sibling, pod("new", now, ready, func(p *corev1.Pod) { p.Name = sick.Name })}, Good, "Verified", "web-old is Ready"},
		{"a DaemonSet's pod on another node is new", daemon, false, 3, []corev1.Pod{sibling, pod("new", now, ready, func(p *corev1.Pod) { p.Spec.NodeName = "b" })}, Pending, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Replacement{Before: tt.before, Owned: !tt.gone, Wanted: tt.wanted, Pods: tt.pods, Now: now}.Judge()
			if got.State != tt.want || got.Reason != tt.reason || !strings.Contains(got.Message, tt.says) {
				t.Errorf("saw %s %q: %q; want %s %q saying %q", got.State, got.Reason, got.Message, tt.want, tt.reason, tt.says)
			}
		})
	}
}

func TestARestartOfTheReplacementChangesTheSubject(t *testing.T) {
	before := Before{Pod: heal.Target{UID: "old"}}
	look := func(restarts int32) string {
		return Replacement{Before: before, Owned: true, Wanted: 1, Now: now, Pods: []corev1.Pod{pod("new", now, ready, func(p *corev1.Pod) {
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "api", RestartCount: restarts}}
		})}}.Judge().Subject
	}
	if look(0) == look(1) {
		t.Errorf("both are %q", look(0))
	}
}

func TestWhatBecameOfADrainedNode(t *testing.T) {
	node := func(uid string, status corev1.ConditionStatus) *corev1.Node {
		return &corev1.Node{
			ObjectMeta: metav1.ObjectMeta{Name: "a", UID: types.UID(uid)},
			Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: status, Reason: "Because"}}},
		}
	}
	readonly := node("n1", corev1.ConditionTrue)
	readonly.Status.Conditions = append(readonly.Status.Conditions, corev1.NodeCondition{Type: "ReadonlyFilesystem", Status: corev1.ConditionTrue})
	target := heal.Target{Kind: "Node", Name: "a", UID: "n1"}
	web := Workload{Target: heal.Target{Kind: "ReplicaSet", Namespace: "shop", Name: "web"}, Wanted: 3, Ready: 3}
	short := web
	short.Ready = 2
	deleted := short
	deleted.Gone = true
	for _, tt := range []struct {
		name    string
		machine Machine
		want    State
		late    string // reason when the time is over
		says    string // then, or in the message
	}{
		{"it is Ready", Machine{Node: node("n1", corev1.ConditionTrue), Workloads: []Workload{short}}, Good, "", "is Ready again"},
		{"it is down", Machine{Node: node("n1", corev1.ConditionUnknown), Drained: true, Workloads: []Workload{web}}, Pending, "NodeStillDown", "cordoned and drained; the workload that lost pods there runs elsewhere"},
		{"it is down, and so is a part of what ran there", Machine{Node: node("n1", corev1.ConditionFalse), Drained: true, Left: 2, Workloads: []Workload{web, short}}, Pending, "NodeStillDown", "drained, but for 2 pods; shop/ReplicaSet/web has 2 of 3 pods Ready"},
		{"it could only be cordoned", Machine{Node: node("n1", corev1.ConditionFalse), Why: "NoRoom"}, Pending, "NoRoom", "not drained"},
		{"it is Ready, and its file system cannot be written", Machine{Node: readonly, Drained: true, Workloads: []Workload{web}}, Pending, "NodeStillDown", "ReadonlyFilesystem is True"},
		{"it was taken away", Machine{Workloads: []Workload{web, deleted}}, Good, "", "2 workloads"},
		{"it was taken away too early", Machine{Workloads: []Workload{short}}, Pending, "", "has 2 of 3"},
		{"another machine has its name", Machine{Node: node("n2", corev1.ConditionTrue), Workloads: []Workload{web}}, Good, "", "taken away"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.machine.Target = target
			got := tt.machine.Judge()
			reason, message := "", got.Message
			if got.Late != nil {
				reason, message = got.Late.Reason, got.Late.Message
			}
			if got.State != tt.want || reason != tt.late || !strings.Contains(message, tt.says) {
				t.Errorf("saw %s, late %q: %q; want %s, %q saying %q", got.State, reason, message, tt.want, tt.late, tt.says)
			}
		})
	}
}
