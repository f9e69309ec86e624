package watch

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

func TestNothingBeginsInANamespaceThatGoesAndWhatBeganEnds(t *testing.T) {
	begun, new := episode.Key{UID: "uid-1", Detector: "crash_loop"}, episode.Key{UID: "uid-1", Detector: "not_ready"}
	now := time.Now()
	book := episode.NewBook(episode.Config{Cluster: "test", Schedule: episode.Schedule{First: time.Hour}, Recheck: time.Hour, Max: 10})
	pod := heal.Target{Kind: "Pod", UID: "uid-1"}
	failing := []episode.Sighting{{Key: begun, State: episode.Failing, Clear: time.Hour}}
	book.See(now, pod, failing)
	book.Stored(now, episode.Record{Key: begun, FirstSeen: now, Opened: now, Announced: 1}, 1)

	work := book.See(now, pod, allWell(append(failing, episode.Sighting{Key: new, State: episode.Failing})))
	if diff := cmp.Diff([]episode.Key{begun}, work); diff != "" {
		t.Errorf("to be done (-want +got):\n%s", diff)
	}
	if step := book.Work(now, begun).Step; step != episode.Resolve {
		t.Errorf("what began: step %v, want it resolved", step)
	}
	if step := book.Work(now, new).Step; step != episode.Nothing {
		t.Errorf("what is new: step %v, want nothing", step)
	}
}
