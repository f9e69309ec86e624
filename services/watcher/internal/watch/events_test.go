package watch

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// warning is an event as a kubelet writes it.
func warning(kind, name, uid, reason, message string, at time.Time) *corev1.Event {
	return &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: name + ".1", Namespace: "shop", UID: types.UID("e-" + name), ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "canary"}}},
		InvolvedObject: corev1.ObjectReference{
			Kind: kind, Namespace: "shop", Name: name, UID: types.UID(uid), FieldPath: "spec.containers{api}",
		},
		Type: corev1.EventTypeWarning, Reason: reason, Message: message, LastTimestamp: metav1.Time{Time: at},
	}
}

func TestEventsBecomeFactsAboutTheirPodAndHaveItJudgedAgain(t *testing.T) {
	w := &Watcher{judged: map[ref]struct{}{}, wake: make(chan struct{}, 1)}
	take := openEvents(w, events).change
	tests := []struct {
		name  string
		event *corev1.Event
		about string
		want  []detect.Event
		again bool
	}{
		{
			name: "a probe failed", event: warning("Pod", "api-1", "u1", "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500", noon), about: "u1",
			want:  []detect.Event{{Reason: "Unhealthy", Container: "api", Probe: "liveness", Message: "answered with HTTP status 500", At: noon}},
			again: true,
		},
		{
			name: "the same, told again by a list", event: warning("Pod", "api-1", "u1", "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 500", noon), about: "u1",
			want: []detect.Event{{Reason: "Unhealthy", Container: "api", Probe: "liveness", Message: "answered with HTTP status 500", At: noon}},
		},
		{
			name: "it failed once more", event: warning("Pod", "api-1", "u1", "Unhealthy", "Liveness probe failed: canary", noon.Add(time.Second)), about: "u1",
			want:  []detect.Event{{Reason: "Unhealthy", Container: "api", Probe: "liveness", Message: "failed", At: noon.Add(time.Second)}},
			again: true,
		},
		{name: "what nobody asks for", event: warning("Pod", "api-2", "u2", "BackOff", "x", noon), about: "u2"},
		{name: "what was long ago", event: warning("Pod", "api-3", "u3", "FailedMount", "x", noon.Add(-detect.EventWindow)), about: "u3"},
		{
			name: "a clock that is ahead", event: warning("Pod", "api-4", "u4", "FailedMount", "x", noon.Add(time.Hour)), about: "u4",
			want: []detect.Event{{Reason: "FailedMount", Container: "api", Message: "x", At: noon.Add(time.Second)}}, again: true,
		},
		{
			name: "about a node, which its kubelet calls by name", event: warning("Node", "n1", "n1", "Rebooted", "boot id: 7", noon), about: "Node/n1",
			want: []detect.Event{{Reason: "Rebooted", Message: "boot id: 7", At: noon}}, again: true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			clear(w.judged)
			now := noon.Add(time.Second)
			take(slimEvent(tt.event).(*corev1.Event), false, now)
			if diff := cmp.Diff(tt.want, w.notes.of(tt.about, now)); diff != "" {
				t.Errorf("facts (-want +got):\n%s", diff)
			}
			_, again := w.judged[ref{"v1", tt.event.InvolvedObject.Kind, "shop", tt.event.InvolvedObject.Name}]
			if again != tt.again {
				t.Errorf("judged again = %v, want %v", again, tt.again)
			}
		})
	}
	w.notes.forget("u1")
	if got := w.notes.of("u1", noon); got != nil {
		t.Errorf("after the pod is gone: %v", got)
	}
}

func TestStaticPodIsKnownByTheUIDThatItsKubeletUses(t *testing.T) {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "mirror", Annotations: map[string]string{corev1.MirrorPodAnnotationKey: "hash"}}}
	if got := podSubject(p); got != "hash" {
		t.Errorf("subject = %q, want the static pod's", got)
	}
	p.Annotations = nil
	if got := podSubject(p); got != "mirror" {
		t.Errorf("subject = %q, want the pod's", got)
	}
}

func TestMemoryForEventsIsBounded(t *testing.T) {
	var n notes
	for i := range maxNoted + 10 {
		n.add(fmt.Sprint("old", i), detect.Event{Reason: "FailedMount", At: noon}, noon)
	}
	if len(n.about) != maxNoted {
		t.Errorf("%d things remembered, want %d", len(n.about), maxNoted)
	}
	later := noon.Add(detect.EventWindow)
	for i := range notesPerThing + 3 {
		n.add("new", detect.Event{Reason: "Unhealthy", Container: fmt.Sprint(i), At: later}, later.Add(time.Duration(i)*time.Second))
	}
	if len(n.about) != 1 || len(n.about["new"]) != notesPerThing {
		t.Errorf("%d things with %d notes remembered after the window, want 1 with %d", len(n.about), len(n.about["new"]), notesPerThing)
	}
}

func TestOfAnEventOnlyItsPointIsKept(t *testing.T) {
	e := warning("Pod", "api-1", "u1", "FailedMount", "so", noon)
	e.Source = corev1.EventSource{Component: "canary"}
	e.Annotations = map[string]string{"a": "canary"}
	e.Series = &corev1.EventSeries{Count: 3, LastObservedTime: metav1.MicroTime{Time: noon}}
	want := warning("Pod", "api-1", "u1", "FailedMount", "so", noon)
	want.ManagedFields = nil
	want.Series = &corev1.EventSeries{LastObservedTime: metav1.MicroTime{Time: noon}}
	if diff := cmp.Diff(want, slimEvent(e)); diff != "" {
		t.Errorf("kept (-want +got):\n%s", diff)
	}
	if got := slimEvent("something else"); got != "something else" {
		t.Errorf("something else became %v", got)
	}
}
