package request

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func line(id, stage, verb, uri, agent string, began, ended time.Time) string {
	return fmt.Sprintf(`{"auditID":%q,"stage":%q,"verb":%q,"requestURI":%q,"userAgent":%q,"requestReceivedTimestamp":%q,"stageTimestamp":%q}`+"\n",
		id, stage, verb, uri, agent, began.Format(time.RFC3339Nano), ended.Format(time.RFC3339Nano))
}

func TestALogIsReadFromAPlaceOnWithoutItsUnfinishedLine(t *testing.T) {
	log := Log{filepath.Join(t.TempDir(), "audit.log")}
	if place, err := log.End(); place != 0 || err != nil {
		t.Errorf("the end of a log that is not there yet is %d, %v", place, err)
	}
	first := line("1", "ResponseComplete", "get", "/a", "selfheal-watcher/v1", noon, noon)
	if err := os.WriteFile(log.Path, []byte(first), 0o600); err != nil {
		t.Fatal(err)
	}
	place, err := log.End()
	if err != nil {
		t.Fatal(err)
	}
	more := line("2", "RequestReceived", "get", "/b", "selfheal-watcher/v1", noon, noon) +
		line("3", "ResponseComplete", "get", "/c", "somebody/v1", noon, noon) +
		line("4", "ResponseComplete", "get", "/d", "selfheal-watcher/v1", noon, noon.Add(time.Second)) + `{"auditID":"5","st`
	if err := os.WriteFile(log.Path, []byte(first+more), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := log.Since(place, "selfheal-watcher/")
	if err != nil {
		t.Fatal(err)
	}
	want := []Request{{ID: "4", UserAgent: "selfheal-watcher/v1", Verb: "get", URI: "/d", Began: noon, Ended: noon.Add(time.Second)}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEverythingIsWhatAnotherClientHasToRead(t *testing.T) {
	got := Everything([]Request{
		{Verb: "watch", URI: "/api/v1/pods?sendInitialEvents=true&watch=true", Open: true},
		{Verb: "watch", URI: "/api/v1/pods?sendInitialEvents=true&watch=true"}, // its end
		{Verb: "watch", URI: "/api/v1/nodes?resourceVersion=7&watch=true", Open: true},
		{Verb: "list", URI: "/apis/apps/v1/deployments?limit=500"},
		{Verb: "list", URI: "/apis/apps/v1/deployments?continue=x&limit=500"},
		{Verb: "get", URI: "/apis/apps/v1/deployments/web"},
	})
	want := []string{"/api/v1/pods?sendInitialEvents=true&watch=true", "/apis/apps/v1/deployments"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRestCountsWatchesByTheirTimeoutAndAllElseAsItCame(t *testing.T) {
	minute := func(n float64) time.Time { return noon.Add(time.Duration(n * float64(time.Minute))) }
	const pods = "/api/v1/pods?timeoutSeconds=1800&watch=true"
	for _, test := range []struct {
		name     string
		requests []Request
		want     Rest
	}{
		{"nothing", nil, Rest{ByAgent: map[string]float64{}, Seen: map[string]int{}}},
		{"an open watch of half an hour", []Request{
			{ID: "1", UserAgent: "selfheal-watcher/v1", Verb: "watch", URI: pods, Open: true, Began: minute(-1), Ended: minute(-1)},
		}, Rest{PerHour: 2, Watches: 1, ByAgent: map[string]float64{"selfheal-watcher": 2}, Seen: map[string]int{}}},
		{"an open watch that the server ends when it likes", []Request{
			{ID: "1", UserAgent: "a/1", Verb: "watch", URI: "/api/v1/namespaces?watch=true", Open: true, Began: minute(-1), Ended: minute(-1)},
		}, Rest{PerHour: 60.0 / 45, Watches: 1, ByAgent: map[string]float64{"a": 60.0 / 45}, Seen: map[string]int{}}},
		{"a watch that lived its time, and its successor", []Request{
			{ID: "1", UserAgent: "a/1", Verb: "watch", URI: pods, Open: true, Began: minute(-29), Ended: minute(-29)},
			{ID: "1", UserAgent: "a/1", Verb: "watch", URI: pods, Began: minute(-29), Ended: minute(1)},
			{ID: "2", UserAgent: "a/1", Verb: "watch", URI: pods, Open: true, Began: minute(1), Ended: minute(1)},
		}, Rest{PerHour: 2, Watches: 1, ByAgent: map[string]float64{"a": 2}, Seen: map[string]int{}}},
		{"a watch that broke off", []Request{
			{ID: "1", UserAgent: "a/1", Verb: "watch", URI: pods, Open: true, Began: minute(-1), Ended: minute(-1)},
			{ID: "1", UserAgent: "a/1", Verb: "watch", URI: pods, Began: minute(-1), Ended: minute(1)},
			{ID: "2", UserAgent: "a/1", Verb: "watch", URI: pods, Open: true, Began: minute(1), Ended: minute(1)},
		}, Rest{PerHour: 32, Watches: 1, ByAgent: map[string]float64{"a": 32}, Seen: map[string]int{"a watch /api/v1/pods": 1}}},
		{"a read, a write and a list, one of them before", []Request{
			{ID: "0", UserAgent: "a/1", Verb: "get", Began: minute(-1), Ended: minute(-1)},
			{ID: "1", UserAgent: "a/1", Verb: "get", URI: "/api/v1/pods/x?y=z", Began: minute(0.5), Ended: minute(0.5)},
			{ID: "2", UserAgent: "b/1", Verb: "patch", Began: minute(1), Ended: minute(1)},
			{ID: "3", UserAgent: "b/1", Verb: "list", Began: minute(1.5), Ended: minute(1.5)},
		}, Rest{PerHour: 90, Writes: 1, Lists: 1, ByAgent: map[string]float64{"a": 30, "b": 60},
			Seen: map[string]int{"a get /api/v1/pods/x": 1, "b patch ": 1, "b list ": 1}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, AtRest(test.requests, noon, noon.Add(2*time.Minute))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
