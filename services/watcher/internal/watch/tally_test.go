package watch

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestOnlyRestartsThatWereSeenAreCounted(t *testing.T) {
	pod := func(counts map[string]int32) *corev1.Pod {
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u1"}}
		for name, n := range counts {
			p.Status.ContainerStatuses = append(p.Status.ContainerStatuses, corev1.ContainerStatus{Name: name, RestartCount: n})
		}
		return p
	}
	tests := []struct {
		name     string
		old, now map[string]int32
		want     map[string]int
	}{
		{"one more", map[string]int32{"api": 300}, map[string]int32{"api": 301}, map[string]int{"api": 1}},
		{"several at once", map[string]int32{"api": 1, "web": 1}, map[string]int32{"api": 4, "web": 1}, map[string]int{"api": 3}},
		{"the first of a container that had not been started", nil, map[string]int32{"api": 1}, map[string]int{"api": 1}},
		{"no change", map[string]int32{"api": 300}, map[string]int32{"api": 300}, nil},
		{"a count that falls", map[string]int32{"api": 300}, map[string]int32{"api": 0}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tallies{window: detect.RestartWindow}
			noteRestarts(&r, countsOf(pod(tt.old)), pod(tt.now), noon)
			if diff := cmp.Diff(tt.want, r.of("u1", noon)); diff != "" {
				t.Errorf("restarts (-want +got):\n%s", diff)
			}
			r.forget("u1")
			if got := r.of("u1", noon); got != nil {
				t.Errorf("after the pod is gone: %v", got)
			}
		})
	}
}

func TestMemoryForRestartsIsBounded(t *testing.T) {
	r := tallies{window: detect.RestartWindow}
	for i := range maxTallied + 10 {
		r.add(fmt.Sprint("old", i), "api", 1, noon)
	}
	if len(r.pods) != maxTallied {
		t.Errorf("%d pods remembered, want %d", len(r.pods), maxTallied)
	}
	later := noon.Add(detect.RestartWindow)
	r.add("new", "api", 1, later)
	if diff := cmp.Diff(map[string]int{"api": 1}, r.of("new", later)); diff != "" || len(r.pods) != 1 {
		t.Errorf("%d pods remembered after the window, want only the new one: %s", len(r.pods), diff)
	}
}

func TestBeginningsOfAWaitAreCountedNotItsLength(t *testing.T) {
	state := func(reason string) *corev1.Pod {
		s := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		if reason != "" {
			s = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason}}
		}
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u1"}, Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: "api", State: s}}}}
	}
	r := tallies{window: detect.RestartWindow}
	var before *corev1.Pod
	for _, reason := range []string{"CrashLoopBackOff", "CrashLoopBackOff", "", "ImagePullBackOff", "CrashLoopBackOff"} {
		now := state(reason)
		noteBackoffs(&r, before, now, noon)
		before = now
	}
	if diff := cmp.Diff(map[string]int{"api": 2}, r.of("u1", noon)); diff != "" {
		t.Errorf("waits (-want +got):\n%s", diff)
	}
}

func TestEachEndForWantOfMemoryIsCountedOnce(t *testing.T) {
	end := func(reason string, ago time.Duration) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: reason, FinishedAt: metav1.Time{Time: noon.Add(-ago)}}}
	}
	runs := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	pod := func(state, last corev1.ContainerState) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u1"}, Status: corev1.PodStatus{
			ContainerStatuses: []corev1.ContainerStatus{{Name: "api", State: state, LastTerminationState: last}},
		}}
	}
	none := corev1.ContainerState{}
	first, second := end("OOMKilled", 20*time.Minute), end("OOMKilled", time.Minute)
	tests := []struct {
		name string
		seen []*corev1.Pod // in this order
		want map[string]int
	}{
		{"once, seen as it happened and after the restart", []*corev1.Pod{pod(runs, none), pod(first, none), pod(runs, first), pod(runs, first)}, map[string]int{"api": 1}},
		{"twice", []*corev1.Pod{pod(runs, first), pod(runs, second)}, map[string]int{"api": 2}},
		{"twice, the second while nobody looked", []*corev1.Pod{pod(second, first)}, map[string]int{"api": 2}},
		{"another end", []*corev1.Pod{pod(runs, none), pod(runs, end("Error", 0))}, nil},
		{"long ago", []*corev1.Pod{pod(runs, end("OOMKilled", 2*time.Hour))}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := tallies{window: detect.OOMWindow}
			for _, now := range tt.seen {
				noteOOMKills(&r, now, noon)
			}
			if diff := cmp.Diff(tt.want, r.of("u1", noon)); diff != "" {
				t.Errorf("ends (-want +got):\n%s", diff)
			}
		})
	}
}

func TestPodThatIsNewToUsHasNoRestartsAndOneThatIsKnownHas(t *testing.T) {
	pod := func(restarts int32) *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "u1"}, Status: corev1.PodStatus{
			ContainerStatuses: []corev1.ContainerStatus{{Name: "api", RestartCount: restarts}, {Name: "web", RestartCount: 2}},
		}}
	}
	p := newPodPast()
	p.note(nil, pod(300), false, noon)
	if p.has([]byte("u1")) {
		t.Errorf("a total of a pod that is new to us is taken for restarts: %v", p.Restarts.of("u1", noon))
	}
	p.note(nil, pod(301), false, noon) // not known as an object, but its restarts are
	p.note(nil, pod(303), true, noon)
	if diff := cmp.Diff(map[string]int{"api": 3}, p.Restarts.of("u1", noon)); diff != "" {
		t.Errorf("restarts (-want +got):\n%s", diff)
	}

	q := newPodPast()
	if err := q.load(p.save(noon), noon); err != nil {
		t.Fatal(err)
	}
	q.note(nil, pod(304), false, noon)
	if diff := cmp.Diff(map[string]int{"api": 4}, q.Restarts.of("u1", noon)); diff != "" {
		t.Errorf("restarts after the memory was passed on (-want +got):\n%s", diff)
	}
	later := noon.Add(detect.RestartWindow)
	if data := q.save(later); data != nil || q.has([]byte("u1")) {
		t.Errorf("%s is remembered after the window", data)
	}
	q.forget("u1")
	if len(q.counts) != 0 {
		t.Errorf("%d pods are remembered that are gone", len(q.counts))
	}
}
