package watch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

func TestScaleUpIsAFactAboutThePodThatItIsFor(t *testing.T) {
	w := &Watcher{judged: map[ref]struct{}{}, wake: make(chan struct{}, 1)}
	event := func(reason, kind, uid string) *eventsv1.Event {
		return &eventsv1.Event{
			ObjectMeta: metav1.ObjectMeta{Name: uid, Namespace: "shop", CreationTimestamp: metav1.Time{Time: noon.Add(-time.Hour)}},
			Reason:     reason, Note: "canary", Regarding: corev1.ObjectReference{Kind: kind, Namespace: "shop", Name: "api-1", UID: "u1"},
			DeprecatedLastTimestamp: metav1.Time{Time: noon},
		}
	}
	change := openScaleUps(w, scaleUps).change
	change(slimScaleUp(event("TriggeredScaleUp", "ConfigMap", "e0")).(*eventsv1.Event), false, noon)
	change(slimScaleUp(event("Scheduled", "Pod", "e1")).(*eventsv1.Event), false, noon)
	if got := w.notes.of("u1", noon); got != nil || len(w.judged) != 0 {
		t.Errorf("facts %v of what is no scale-up for a pod", got)
	}
	change(slimScaleUp(event("TriggeredScaleUp", "Pod", "e2")).(*eventsv1.Event), false, noon)
	if diff := cmp.Diff([]detect.Event{{Reason: "TriggeredScaleUp", At: noon}}, w.notes.of("u1", noon)); diff != "" {
		t.Errorf("facts (-want +got):\n%s", diff)
	}
	if _, again := w.judged[ref{"v1", "Pod", "shop", "api-1"}]; !again {
		t.Error("the pod is not judged again")
	}
}
