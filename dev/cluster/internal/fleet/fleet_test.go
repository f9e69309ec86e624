package fleet

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var now = metav1.NewTime(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))

func TestEveryOwnerIsAnObjectOfTheFleetAndNothingIsThereTwice(t *testing.T) {
	known := map[types.UID]string{}
	keys := map[string]bool{}
	pods := 0
	for o := range objects(Size{Pods: 90, Nodes: 7}, now) {
		m, err := meta.Accessor(o.object)
		if err != nil {
			t.Fatal(err)
		}
		if keys[o.key] || known[m.GetUID()] != "" {
			t.Errorf("%s, uid %s, is there twice", o.key, m.GetUID())
		}
		keys[o.key], known[m.GetUID()] = true, m.GetName()
		for _, ref := range m.GetOwnerReferences() {
			if known[ref.UID] != ref.Name {
				t.Errorf("%s is owned by %s, uid %s, which is nobody's before it", o.key, ref.Name, ref.UID)
			}
		}
		if _, ok := o.object.(*corev1.Pod); ok {
			pods++
		}
	}
	if pods != 90 {
		t.Errorf("%d pods, want 90", pods)
	}
}

func TestAPodIsStoredAsLargeAsOneIs(t *testing.T) {
	value, err := encode(Size{Pods: 20, Nodes: 3}.app(0, now).pod(5).object)
	if err != nil {
		t.Fatal(err)
	}
	if len(value) < 4500 || len(value) > 7500 {
		t.Errorf("a pod takes %d bytes, want about 5 to 7 thousand", len(value))
	}
	if string(value[:4]) != "k8s\x00" {
		t.Errorf("it begins with %q", value[:4])
	}
}

func TestABrokenPodDiffersInItsStatusOnly(t *testing.T) {
	whole := Size{Pods: 20, Nodes: 3}.app(0, now).pod(5).object.(*corev1.Pod)
	broken := whole.DeepCopy()
	invalidate(broken, now)
	value, err := encode(broken)
	if err != nil {
		t.Fatal(err)
	}
	got, err := decodePod(value)
	if err != nil {
		t.Fatal(err)
	}
	if w := got.Status.ContainerStatuses[0].State.Waiting; w == nil || w.Reason != "InvalidImageName" {
		t.Errorf("the state of the first container is %v", got.Status.ContainerStatuses[0].State)
	}
	for _, c := range got.Status.Conditions {
		want := corev1.ConditionTrue
		if c.Type == corev1.PodReady || c.Type == corev1.ContainersReady {
			want = corev1.ConditionFalse
		}
		if c.Status != want {
			t.Errorf("condition %s is %s, want %s", c.Type, c.Status, want)
		}
	}
	if diff := cmp.Diff(whole.Spec, got.Spec); diff != "" {
		t.Errorf("spec (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(whole.OwnerReferences, got.OwnerReferences); diff != "" {
		t.Errorf("owners (-before +after):\n%s", diff)
	}
}

func TestFewPodsAreSpreadWide(t *testing.T) {
	s := Size{Pods: 50, Nodes: 7}
	all := podKeys(s, 50)
	if len(all) != 50 || len(slices.Compact(slices.Sorted(slices.Values(all)))) != 50 {
		t.Errorf("%d keys of 50 pods", len(all))
	}
	a, b, c := s.app(0, now), s.app(1, now), s.app(2, now)
	want := []string{
		podKey(a.namespace, a.podName(0)), podKey(b.namespace, b.podName(0)), podKey(c.namespace, c.podName(0)), podKey(a.namespace, a.podName(1)),
	}
	if diff := cmp.Diff(want, podKeys(s, 4)); diff != "" {
		t.Errorf("first four (-want +got):\n%s", diff)
	}
}

func TestARoundVisitsEachOnceInItsTime(t *testing.T) {
	for _, test := range []struct {
		name   string
		nodes  int
		every  time.Duration
		visits int // of each
	}{
		{"many", 1000, 10 * time.Second, 1},
		{"fewer than ticks", 7, 10 * time.Second, 1},
		{"slow", 50, 20 * time.Second, 1},
		{"none yet", 0, 10 * time.Second, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := round{every: test.every}
			visits := map[int]int{}
			for range test.every / tick {
				for range r.due(test.nodes) {
					visits[r.next(test.nodes)]++
				}
			}
			for i := range test.nodes {
				// The last one may fall into the next round, for the fractions.
				if visits[i] != test.visits && i != test.nodes-1 {
					t.Errorf("node %d was visited %d times, want %d", i, visits[i], test.visits)
				}
			}
		})
	}
}

func TestSizeNamesWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		size Size
		want string
	}{
		{Size{Pods: 0, Nodes: 1}, ""},
		{Size{Pods: -1, Nodes: 1}, "--pods is -1, want 0 or more"},
		{Size{Pods: 1}, "--nodes is 0, want 1 or more"},
	} {
		got := ""
		if err := test.size.Validate(); err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%+v: got %q, want %q", test.size, got, test.want)
		}
	}
}
