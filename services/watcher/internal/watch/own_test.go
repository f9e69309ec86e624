package watch

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
	"github.com/selfheal/selfheal/services/watcher/internal/own"
)

func TestWhatOwnDetectorsFindIsKeptApartFromWhatOursDo(t *testing.T) {
	pod := ownKind(own.Kind{Version: "v1", Kind: "Pod", Resource: "pods", Namespaced: true})
	w := &Watcher{sources: map[string]*source{pods.key(): {kind: pods}, pod.key(): {kind: pod}}}
	if pod.key() == pods.key() || pod.subject("u1") == pods.subject("u1") {
		t.Fatalf("both are %s and %s", pod.key(), pod.subject("u1"))
	}
	for subject, want := range map[string]string{pods.subject("u1"): pods.key(), pod.subject("u1"): pod.key()} {
		s, uid := w.sourceOf(heal.Target{APIVersion: "v1", Kind: "Pod", UID: subject})
		if s == nil || s.key() != want || uid != "u1" {
			t.Errorf("%s leads to %v and %s, want %s and u1", subject, s, uid, want)
		}
	}
	if s, _ := w.sourceOf(heal.Target{APIVersion: "v1", Kind: "Pod", UID: "own/v1/Node/u1"}); s != nil {
		t.Errorf("a kind that is not looked at leads to %s", s.key())
	}
}

func TestWhatADetectorFoundEndsWhenTheFileHasItNoMore(t *testing.T) {
	list := []detect.Detector[*own.Object]{{Name: "own.stays"}}
	stays, goes := episode.Key{UID: "u", Detector: "own.stays"}, episode.Key{UID: "u", Detector: "own.goes"}
	want := []episode.Sighting{{Key: goes, State: episode.Well}}
	if diff := cmp.Diff(want, dropped(list, []episode.Key{stays, goes})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAPodThatAnOwnDetectorFindsNamesItsNode(t *testing.T) {
	object := own.Clean(map[string]any{"metadata": map[string]any{"name": "n7"}, "spec": map[string]any{"nodeName": "n1"}})
	for _, tt := range []struct{ version, kind, want string }{{"v1", "Pod", "n1"}, {"v1", "Node", "n7"}, {"example.com/v1", "Pod", ""}} {
		if got := ownNode(own.Kind{Version: tt.version, Kind: tt.kind})(object); got != tt.want {
			t.Errorf("%s of %s: node %q, want %q", tt.kind, tt.version, got, tt.want)
		}
	}
}

func TestASuspectOfAnOwnDetectorIsHeldPacked(t *testing.T) {
	k := ownKind(own.Kind{Version: "v1", Kind: "Pod", Resource: "pods", Namespaced: true})
	shelf := newShelf(k)
	object := own.Clean(map[string]any{"metadata": map[string]any{"name": "a", "namespace": "shop", "uid": "u1"}, "status": map[string]any{"n": int64(3)}})
	shelf.put(name{"shop", "a"}, object)
	if shelf.items[name{"shop", "a"}].obj != nil {
		t.Error("it lies there unpacked")
	}
	if diff := cmp.Diff(object, shelf.get(name{"shop", "a"})); diff != "" {
		t.Errorf("what comes back (-want +got):\n%s", diff)
	}
}
