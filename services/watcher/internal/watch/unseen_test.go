package watch

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/services/watcher/internal/own"
)

func TestWhatLiesBeyondTheNamespacesIsNamed(t *testing.T) {
	var log bytes.Buffer
	w := &Watcher{
		log: slog.New(slog.NewTextHandler(&log, nil)), weights: newWeights(), sources: map[string]*source{},
		cfg: Config{Namespaces: []string{"shop"}, Own: []own.Kind{
			{Version: "v1", Kind: "Node", Resource: "nodes"},
			{Version: "example.com/v1", Kind: "Region", Group: "example.com", Resource: "regions"},
			{Version: "v1", Kind: "Pod", Resource: "pods", Namespaced: true},
		}},
	}
	for _, k := range w.all() {
		if k.Namespaced {
			w.sources[k.key()] = &source{kind: k}
		}
	}
	want := []string{
		"apiservices.apiregistration.k8s.io", "mutatingwebhookconfigurations.admissionregistration.k8s.io", "namespaces", "nodes",
		"persistentvolumes", "regions.example.com", "storageclasses.storage.k8s.io",
		"validatingwebhookconfigurations.admissionregistration.k8s.io", "volumeattachments.storage.k8s.io",
	}
	if diff := cmp.Diff(want, w.beyond()); diff != "" {
		t.Errorf("beyond (-want +got):\n%s", diff)
	}
	w.sayBeyond()
	if !strings.Contains(log.String(), "nodes persistentvolumes regions.example.com") {
		t.Errorf("it said %q", log.String())
	}
	refused := &health{resource: "events", since: time.Now().Add(-time.Minute), err: errors.New("forbidden")}
	s := w.sources["v1/Event"]
	s.parts = []*part{{source: s, health: refused}}
	unseen := w.Unseen()
	if unseen["events"] != "forbidden" || unseen["nodes"] != outOfScope || len(unseen) != len(want)+1 {
		t.Errorf("unseen: %v", unseen)
	}
}

func TestAWatcherOfTheWholeClusterLeavesNothingOut(t *testing.T) {
	w := &Watcher{sources: map[string]*source{}}
	for _, k := range w.all() {
		w.sources[k.key()] = &source{kind: k}
	}
	if got := w.Unseen(); len(got) != 0 {
		t.Errorf("unseen: %v", got)
	}
}
