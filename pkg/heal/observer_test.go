package heal

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func typicalObserver() Observer {
	return Observer{
		ID: "o-1", State: ObserverBlind, Since: noon, SeenAt: noon,
		Doubts: []Doubt{{Name: "watch", Detail: "no watch of pods for 1m5s", Since: noon}},
	}
}

func TestAnObserversStateIsChecked(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*Observer)
		want   string // empty: valid
	}{
		"typical":             {func(*Observer) {}, ""},
		"clear":               {func(o *Observer) { o.State, o.Doubts = ObserverClear, nil }, ""},
		"without id":          {func(o *Observer) { o.ID = "" }, `id: "" is not an observer's id`},
		"an id with dots":     {func(o *Observer) { o.ID = "a.b" }, `id: "a.b" is not an observer's id`},
		"unknown state":       {func(o *Observer) { o.State = "dim" }, `state: "dim" is not known; want one of [clear settling blind]`},
		"clear, with doubts":  {func(o *Observer) { o.State = ObserverClear }, `doubts: 1 of them in state "clear"`},
		"blind, without":      {func(o *Observer) { o.Doubts = nil }, `doubts: 0 of them in state "blind"`},
		"a doubt of no name":  {func(o *Observer) { o.Doubts = []Doubt{{Detail: "x"}} }, `doubts[0].name: is empty`},
		"a doubt of nothing":  {func(o *Observer) { o.Doubts = []Doubt{{Name: "x"}} }, `doubts[0].detail: is empty`},
		"without a beginning": {func(o *Observer) { o.Since = time.Time{} }, `since: is empty`},
		"without a time":      {func(o *Observer) { o.SeenAt = time.Time{} }, `seen_at: is empty`},
	} {
		o := typicalObserver()
		tt.change(&o)
		got := ""
		if err := o.Validate(); err != nil {
			got = err.Error()
		}
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestWhatSeveralWatchersSeeIsCombined(t *testing.T) {
	clear := Observer{ID: "a", State: ObserverClear}
	cutOff := Observer{ID: "b", State: ObserverBlind, Doubts: []Doubt{{Name: "watch", Detail: "no watch of pods for 1m5s"}}}
	settling := Observer{ID: "c", State: ObserverSettling, Doubts: []Doubt{{Name: "settling", Detail: "began to look 4s ago"}}}
	cliff := Observer{ID: "d", State: ObserverBlind, Doubts: []Doubt{
		{Name: "clock", Detail: "the clock jumped by 40s"},
		{Name: "inventory", Cluster: true, Detail: "pods fell from 100 to 0 in one resync"},
	}}
	ago := func(d time.Duration, o Observer) Heard { return Heard{o, noon.Add(-d)} }
	const long = ObserverFresh + time.Second

	for _, tt := range []struct {
		name  string
		heard []Heard
		since time.Time
		want  Sight
	}{
		{"one that sees", []Heard{ago(0, clear)}, noon, Sight{Clear: true, Detail: "1 of 1 watchers see clearly"}},
		{"one that saw a while ago", []Heard{ago(ObserverFresh, clear)}, noon, Sight{Clear: true, Detail: "1 of 1 watchers see clearly"}},
		{"one that has been silent since", []Heard{ago(long, clear)}, noon, Sight{Reason: "Blind", Detail: "no watcher has said for 1m31s how well it sees"}},
		{"one that is cut off", []Heard{ago(0, cutOff)}, noon, Sight{Reason: "Blind", Detail: "none of 1 watchers sees clearly: no watch of pods for 1m5s"}},
		{"one that is cut off beside one that sees", []Heard{ago(0, cutOff), ago(0, clear)}, noon, Sight{Clear: true, Detail: "1 of 2 watchers see clearly"}},
		{"one that is cut off beside one that saw long ago", []Heard{ago(0, cutOff), ago(long, clear)}, noon, Sight{Reason: "Blind", Detail: "none of 1 watchers sees clearly: no watch of pods for 1m5s"}},
		{"a doubt about the cluster beside one that sees", []Heard{ago(0, clear), ago(0, cliff)}, noon, Sight{Reason: "Blind", Detail: "pods fell from 100 to 0 in one resync"}},
		{"an old doubt about the cluster", []Heard{ago(0, clear), ago(long, cliff)}, noon, Sight{Clear: true, Detail: "1 of 1 watchers see clearly"}},
		{"one that settles", []Heard{ago(0, settling)}, noon, Sight{Reason: "Settling", Detail: "none of 1 watchers sees clearly: began to look 4s ago"}},
		{"one that settles beside one that is cut off", []Heard{ago(0, cutOff), ago(0, settling)}, noon, Sight{Reason: "Settling", Detail: "none of 2 watchers sees clearly: began to look 4s ago"}},
		{"one that settles beside one that sees", []Heard{ago(0, clear), ago(0, settling)}, noon, Sight{Clear: true, Detail: "1 of 2 watchers see clearly"}},
		{"nobody, and it cannot be read", nil, time.Time{}, Sight{Reason: "Blind", Detail: "how well the watchers see cannot be read"}},
		{"nobody yet", nil, noon.Add(-ObserverFresh), Sight{Clear: true, Detail: "no watcher has said anything yet, in 1m30s"}},
		{"nobody for too long", nil, noon.Add(-long), Sight{Reason: "Blind", Detail: "no watcher has said in 1m31s how well it sees"}},
	} {
		if diff := cmp.Diff(JudgeSight(tt.heard, tt.since, noon), tt.want); diff != "" {
			t.Errorf("%s: (-got +want)\n%s", tt.name, diff)
		}
	}
}
