package watch

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

func failingOn(node, owner, detector string) heal.Failure {
	f := heal.Failure{
		Target: heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: owner + "-1"}, Node: node, Detector: detector,
	}
	if owner != "" {
		f.Owner = heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: owner}
	}
	return f
}

func TestWorkloadsThatFailOnOneNodeOnlyAccuseIt(t *testing.T) {
	ofNode := failingOn("n1", "x", "crash_loop")
	ofNode.Target.Kind = "Node"
	tests := []struct {
		name    string
		failing []heal.Failure
		want    map[string][]string
	}{
		{name: "nothing fails", want: map[string][]string{}},
		{
			name:    "each on a node of its own",
			failing: []heal.Failure{failingOn("n1", "b", "crash_loop"), failingOn("n1", "a", "stuck_creating"), failingOn("n1", "a", "crash_loop"), failingOn("n2", "c", "not_ready")},
			want:    map[string][]string{"n1": {"shop/Deployment/a", "shop/Deployment/b"}, "n2": {"shop/Deployment/c"}},
		},
		{
			name:    "one on several",
			failing: []heal.Failure{failingOn("n1", "a", "crash_loop"), failingOn("n2", "a", "crash_loop"), failingOn("n1", "a", "crash_loop")},
			want:    map[string][]string{},
		},
		{
			name:    "what is no node's fault",
			failing: []heal.Failure{failingOn("n1", "a", "config_error"), failingOn("", "b", "crash_loop"), ofNode},
			want:    map[string][]string{},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, accusers(slices.Values(tt.failing))); diff != "" {
				t.Errorf("accusers (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSuspicionIsComparedWithTheWorstOfTheOtherNodes(t *testing.T) {
	s := suspicion{nodes: map[string][]string{"n1": {"a", "b", "c"}, "n2": {"d"}, "n3": {"e", "f"}}}
	for node, want := range map[string]string{"n1": "[a b c] 2", "n2": "[d] 3", "n4": "[] 3"} {
		here, elsewhere := s.against(node)
		if got := fmt.Sprint(here, elsewhere); got != want {
			t.Errorf("%s: %s, want %s", node, got, want)
		}
	}
}

func TestNodeIsJudgedAgainWhenOthersAccuseItAndWhenTheyDoNoMore(t *testing.T) {
	w := &Watcher{
		cfg: Config{Recheck: time.Minute}, judged: map[ref]struct{}{}, wake: make(chan struct{}, 1),
		book: episode.NewBook(episode.Config{Schedule: episode.Schedule{First: time.Hour, Limit: time.Hour}, Recheck: time.Minute, Max: 10}),
	}
	n1 := ref{"v1", "Node", "", "n1"}
	judged := func(at time.Time) bool {
		clear(w.judged)
		w.suspect(at)
		_, again := w.judged[n1]
		return again
	}
	key := episode.Key{UID: "u1", Detector: "crash_loop"}
	target := heal.Target{UID: "u1"}
	w.book.See(noon, target, []episode.Sighting{{Key: key, State: episode.Failing, Failure: failingOn("n1", "a", "crash_loop")}})
	w.book.Stored(noon, w.book.Work(noon, key).Record, 1)
	if !judged(noon) {
		t.Error("not judged again when a workload began to fail on it alone")
	}
	w.book.Gone(noon, "u1")
	if judged(noon.Add(59 * time.Second)) {
		t.Error("the suspicion was made anew too soon")
	}
	if !judged(noon.Add(time.Minute)) {
		t.Error("not judged again when nothing failed on it any more")
	}
	if judged(noon.Add(2 * time.Minute)) {
		t.Error("judged again without a change")
	}
}
