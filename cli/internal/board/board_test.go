package board

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/cli/internal/overview"
	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/pkg/heal"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func incident(id string, state record.State, minute int) record.Incident {
	return record.Incident{
		ID: id, State: state, Severity: heal.High, Type: heal.PodFailure, Reason: "CrashLoopBackOff", Strategy: heal.Restart, DecisionID: "d-" + id,
		Object: heal.Target{Kind: "Deployment", Namespace: "shop", Name: id}, Opened: noon, Changed: noon.Add(time.Duration(minute) * time.Minute), Message: "restart " + id,
	}
}

func view() View {
	return View{
		Status: overview.Status{
			Cluster: "test", NATS: overview.NATS{Version: "2.15.2"}, Sight: "1 of 1 watchers see clearly", SeesClearly: true,
			Incidents: map[record.State]int{record.Waiting: 1, record.Open: 1, record.Healed: 1}, DeadLetters: 2,
			Stages: []overview.Stage{{Service: "analyzer", Listens: true, Pending: 3}, {Service: "actuator", Listens: true, InHand: 1}, {Service: "notifier"}},
		},
		Incidents: []record.Incident{incident("healed", record.Healed, 9), incident("open", record.Open, 1), incident("waits", record.Waiting, 0)},
		Counts:    Counts{Seen: 5, Decided: 4, Ended: 1},
	}
}

func shown(b *Board) string {
	var lines []string
	for _, l := range b.Lines(80, 16, screen.Paint{}, noon) {
		lines = append(lines, strings.TrimRight(l, " "))
	}
	return strings.Join(lines, "\n")
}

func TestWhatAsksForAPersonStandsFirst(t *testing.T) {
	var b Board
	b.Show(view())
	want := strings.Join([]string{
		"selfheal · cluster test · nats 2.15.2                               12:00:00 UTC",
		"acting is allowed",
		"1 of 1 watchers see clearly",
		"",
		"watcher             ──▶ analyzer        ──▶ actuator        ──▶ notifier",
		"5 seen                  4 decided           1 ended",
		"                        3 wait, 0 in h…     0 wait, 1 in h…     0 wait, NOBODY",
		"",
		"incidents: 1 open, 1 waiting, 1 healed · 2 dead letters",
		"▸ 12:00:00  waiting    high      shop/Deployment/waits  CrashLoopBackOff → rest…",
		"  12:00:00  open       high      shop/Deployment/open  CrashLoopBackOff → resta…",
		"  12:00:00  healed     high      shop/Deployment/healed  CrashLoopBackOff → res…",
		"",
		"",
		"waits: restart waits",
		"↑↓ select   a approve   r reject   p pause   u resume   q quit",
	}, "\n")
	if diff := cmp.Diff(want, shown(&b)); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
}

func TestNothingIsDoneBeforeAPersonHasSaidYes(t *testing.T) {
	for _, tt := range []struct {
		keys string
		want Wish
	}{
		{"a", Wish{}},
		{"an", Wish{}},
		{"ay", Wish{Verb: Approve, Decision: "d-waits", about: "restart of shop/Deployment/waits"}},
		{"ry", Wish{Verb: Reject, Decision: "d-waits", about: "restart of shop/Deployment/waits"}},
		{"jay", Wish{}}, // the second waits for nobody
		{"jkay", Wish{Verb: Approve, Decision: "d-waits", about: "restart of shop/Deployment/waits"}},
		{"py", Wish{Verb: Pause, about: "all acting on cluster test"}},
		{"pq", Wish{}},
		{"uy", Wish{Verb: Resume, about: "acting on cluster test"}},
		{"q", Wish{Verb: Quit}},
		{"\x03", Wish{Verb: Quit}},
		{"x", Wish{}},
	} {
		var b Board
		b.Show(view())
		var got Wish
		for _, key := range tt.keys {
			got = b.Key(string(key))
		}
		if got != tt.want {
			t.Errorf("%q: %+v, want %+v", tt.keys, got, tt.want)
		}
	}
}

func TestTheSelectedIncidentStaysSelected(t *testing.T) {
	var b Board
	b.Show(view())
	b.Key("\x1b[B")
	later := view()
	later.Incidents = append(later.Incidents, incident("another", record.Waiting, 5))
	b.Show(later)
	if b.selected != "open" {
		t.Errorf("selected is %q", b.selected)
	}
	for range 9 {
		b.Key("j")
	}
	if b.selected != "healed" {
		t.Errorf("at the end it is %q", b.selected)
	}
}

func TestTheBoardFitsAnyScreen(t *testing.T) {
	var b Board
	many := view()
	for i := range 100 {
		many.Incidents = append(many.Incidents, incident(strings.Repeat("x", i+1), record.Open, i))
	}
	many.Incidents[0].Message = strings.Repeat("long \x1b[31m", 100)
	b.Show(many)
	for _, size := range [][2]int{{40, 12}, {80, 24}, {200, 60}} {
		lines := b.Lines(size[0], size[1], screen.Paint{}, noon)
		if len(lines) != size[1] {
			t.Errorf("%d lines on a screen of %d", len(lines), size[1])
		}
		for _, l := range lines {
			if utf8.RuneCountInString(l) > size[0] || strings.Contains(l, "\x1b") {
				t.Errorf("on a screen of %d columns: %q", size[0], l)
			}
		}
	}
}
