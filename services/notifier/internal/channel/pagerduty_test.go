package channel

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
)

func TestPagerDutyEventsAreWrittenAsEver(t *testing.T) {
	for name, r := range samples() {
		n := sample.Notification("pagerduty", "", r)
		if name == "drained" {
			n.Metadata = map[string]string{"report": "https://heal.example.com/incidents/1", "runbook": "https://wiki.example.com/nodes"}
		}
		golden(t, "pagerduty-"+name+".json", indented(t, renderPagerDuty(n, "")))
	}
}

func TestWhatBecomesOfAnAlert(t *testing.T) {
	unverified, doubted := sample.Healed(), sample.Healed()
	unverified.Verification = nil
	doubted.Verification = &heal.Verification{}
	givenUp := sample.Refused()
	givenUp.Reason, givenUp.Decision.Reason = heal.ReasonGivenUp, heal.ReasonGivenUp
	underWay := sample.Watched()
	underWay.Reason, underWay.Decision.Reason = heal.ReasonRecoveryUnderWay, heal.ReasonRecoveryUnderWay
	for name, test := range map[string]struct {
		result heal.Result
		want   string
	}{
		"verified":            {sample.Healed(), "resolve"},
		"done, not verified":  {unverified, "acknowledge"},
		"done, but no better": {doubted, "acknowledge"},
		"failed":              {sample.Drained(), "trigger"},
		"timed out":           {sample.Unproven(), "trigger"},
		"refused":             {sample.Refused(), "trigger"},
		"given up":            {givenUp, "trigger"},
		"only observed":       {sample.Proposed(), "trigger"},
		"only tried":          {sample.Tried(), "trigger"},
		"under way":           {underWay, "trigger"},
	} {
		if got := pagerDutyAction(test.result); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// A pager is PagerDuty as its documentation has it: it refuses what breaks the
// format, and knows of each alert whether it is open.
type pager struct {
	url    string
	alerts map[string]string // by dedup_key: triggered, acknowledged, resolved
	rang   int               // how often somebody was notified
}

type event struct {
	RoutingKey string `json:"routing_key"`
	Action     string `json:"event_action"`
	DedupKey   string `json:"dedup_key"`
	Client     string
	Links      []struct{ Href, Text string }
	Payload    struct {
		Summary, Source, Severity, Component, Group, Class string
		Timestamp                                          time.Time
		Details                                            map[string]any `json:"custom_details"`
	}
}

func newPager(t *testing.T) *pager {
	p := &pager{alerts: map[string]string{}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		wrong := badEvent(body)
		if r.Method != http.MethodPost || r.URL.Path != "/v2/enqueue" || r.Header.Get("Content-Type") != "application/json" {
			wrong = append(wrong, fmt.Sprintf("%s %s with %q", r.Method, r.URL.Path, r.Header.Get("Content-Type")))
		}
		w.Header().Set("Content-Type", "application/json")
		if len(wrong) > 0 {
			t.Errorf("PagerDuty would refuse: %q", wrong)
			w.WriteHeader(http.StatusBadRequest)
			_ = json.NewEncoder(w).Encode(map[string]any{"status": "invalid event", "message": "Event object is invalid", "errors": wrong})
			return
		}
		var e event
		_ = json.Unmarshal(body, &e) // badEvent did so too
		p.take(e)
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "message": "Event processed", "dedup_key": e.DedupKey})
	}))
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

// take is what PagerDuty does with an event: it notifies once per alert, and
// knows nothing of an alert that is not open but by a trigger.
func (p *pager) take(e event) {
	open := p.alerts[e.DedupKey] == "triggered" || p.alerts[e.DedupKey] == "acknowledged"
	switch {
	case e.Action == "trigger" && !open:
		p.alerts[e.DedupKey] = "triggered"
		p.rang++
	case e.Action == "acknowledge" && open:
		p.alerts[e.DedupKey] = "acknowledged"
	case e.Action == "resolve" && open:
		p.alerts[e.DedupKey] = "resolved"
	}
}

// badEvent is what PagerDuty itself would refuse, and what it would act upon.
func badEvent(body []byte) []string {
	var wrong []string
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if len(body) > 512<<10 {
		bad("event has %d bytes, more than 512 KB", len(body))
	}
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		return append(wrong, err.Error())
	}
	if len(e.RoutingKey) != 32 {
		bad("length of routing_key is %d, should be 32", len(e.RoutingKey))
	}
	if !slices.Contains([]string{"trigger", "acknowledge", "resolve"}, e.Action) {
		bad("event_action %q", e.Action)
	}
	if !slices.Contains([]string{"critical", "error", "warning", "info"}, e.Payload.Severity) {
		bad("severity %q", e.Payload.Severity)
	}
	length := func(name, text string, least, most int) {
		if n := utf8.RuneCountInString(text); n < least || n > most {
			bad("length of %s is %d, should be %d to %d", name, n, least, most)
		}
		if heal.Clean(text, 1<<20) != text || strings.Contains(text, "://") {
			bad("%s is active: %q", name, text)
		}
	}
	length("dedup_key", e.DedupKey, 1, 255)
	length("summary", e.Payload.Summary, 1, 1024)
	length("source", e.Payload.Source, 1, 255)
	length("component", e.Payload.Component, 1, 255)
	length("group", e.Payload.Group, 0, 255)
	length("class", e.Payload.Class, 1, 255)
	if e.Payload.Timestamp.IsZero() {
		bad("timestamp is missing")
	}
	for key, value := range e.Payload.Details {
		length("custom_details", key, 1, 64)
		length("custom_details."+key, strings.ReplaceAll(fmt.Sprint(value), "\n", " "), 0, 4<<10)
	}
	return wrong
}

func (p *pager) open(t *testing.T) *Line {
	t.Helper()
	s := settings()
	s.PagerDutyEnabled, s.PagerDutyRoutingKey, s.PagerDutyAPIURL = true, routingKey, p.url
	return openOne(t, s)
}

func TestOneIncidentRingsOnceAndEndsOnlyWhenProven(t *testing.T) {
	p := newPager(t)
	line := p.open(t)
	if diff := cmp.Diff([]route.Listener{{Channel: "pagerduty", Audience: route.OnCall, Edits: true}, {Channel: "pagerduty", To: "changes", Audience: route.Changes}}, line.Listeners); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
	line.Channel.(pagerDuty).pace.SetLimit(1000) // the pace has its own test
	unverified := sample.Healed()
	unverified.Verification = nil
	incident := sample.Healed().Decision.IncidentID
	for _, step := range []struct {
		result heal.Result
		state  string
		rang   int
	}{
		{sample.Healed(), "", 0}, // what was over before anybody was woken wakes nobody
		{sample.Unproven(), "triggered", 1},
		{sample.Refused(), "triggered", 1},
		{sample.Refused(), "triggered", 1},
		{unverified, "acknowledged", 1},
		{sample.Healed(), "resolved", 1},
		{sample.Healed(), "resolved", 1},
		{sample.Unproven(), "triggered", 2},
	} {
		if err := line.Send(t.Context(), sample.Notification("pagerduty", "", step.result)); err != nil {
			t.Fatal(err)
		}
		if got := p.alerts[incident]; got != step.state || p.rang != step.rang {
			t.Errorf("after %s: alert is %q, rang %d times; want %q, %d", step.result.Reason, got, p.rang, step.state, step.rang)
		}
	}
	if err := line.Send(t.Context(), sample.Notification("pagerduty", "", sample.Drained())); err != nil {
		t.Fatal(err)
	}
	if len(p.alerts) != 2 || p.rang != 3 {
		t.Errorf("another incident: %d alerts, rang %d times; want 2, 3", len(p.alerts), p.rang)
	}
}

// Whatever an incident goes through, and wherever we die: each of its alerts
// rings once, a failure is never told to nobody, and nothing stays open.
func TestAnIncidentsAlertsRingOnceAndAllEnd(t *testing.T) {
	open := []heal.Phase{heal.PhaseSeen, heal.PhaseWaiting, heal.PhaseActing, heal.PhaseFailed, heal.PhaseGivenUp}
	for seed := range uint64(5000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		p, before := &pager{alerts: map[string]string{}}, Ref("")
		var story []string
		tell := func(phase heal.Phase) {
			for dies := rng.IntN(4) == 0; ; dies = false {
				steps, after := alertSteps(before, phase, "i-1")
				during := pagerDuty{}.During(heal.Notification{Phase: phase}, before)
				most := len(steps)
				if dies {
					most = rng.IntN(len(steps) + 1)
				}
				for _, s := range steps[:most] {
					p.take(event{Action: s.action, DedupKey: s.key})
					story = append(story, s.action+" "+s.key)
				}
				if before = during; !dies {
					before = after
					return
				}
				story = append(story, "dies")
				if rng.IntN(2) == 0 {
					return // something newer is told instead
				}
			}
		}
		for range rng.IntN(8) {
			phase := open[rng.IntN(len(open))]
			story = append(story, string(phase)+":")
			rang := p.rang
			tell(phase)
			needed := phase == heal.PhaseFailed || phase == heal.PhaseGivenUp
			if rings := p.alerts["i-1"] == "triggered" || p.alerts["i-1-person"] == "triggered"; needed && !rings && story[len(story)-1] != "dies" {
				t.Fatalf("seed %d: nobody is called: %q", seed, story)
			}
			if p.rang > rang+1 {
				t.Fatalf("seed %d: rang %d times at once: %q", seed, p.rang-rang, story)
			}
		}
		if p.rang > 2 {
			t.Fatalf("seed %d: rang %d times: %q", seed, p.rang, story)
		}
		tell(heal.PhaseResolved)
		for story[len(story)-1] == "dies" {
			tell(heal.PhaseResolved) // nothing is newer
		}
		for key, state := range p.alerts {
			if state != "resolved" {
				t.Fatalf("seed %d: %s is left %s: %q", seed, key, state, story)
			}
		}
	}
}

func TestEveryPagerDutyEventKeepsItsLimitsAndLinksNowhere(t *testing.T) {
	r := everywhere(strings.Repeat("x", 10_000))
	for range 200 {
		r.Steps = append(r.Steps, r.Steps[0])
		r.Decision.Explanation.Steps = append(r.Decision.Explanation.Steps, r.Decision.Explanation.Steps[0])
	}
	r.Decision.Failure.Target.Name = strings.Repeat("n", 253)
	all := []heal.Result{r}
	for _, text := range hostile() {
		all = append(all, everywhere(text))
	}
	for _, r := range samples() {
		all = append(all, r)
	}
	for _, r := range all {
		data, err := json.Marshal(renderPagerDuty(sample.Notification("pagerduty", "", r), routingKey))
		if err != nil {
			t.Fatal(err)
		}
		if wrong := badEvent(data); len(wrong) > 0 {
			t.Errorf("%.80q: %q", r.Message, wrong)
		}
	}
}

func TestAnIncidentsKeyIsTakenAsItIsWhereThatCanBe(t *testing.T) {
	fits, long := strings.Repeat("i", 255), strings.Repeat("i", 256)
	for _, incident := range []string{"i-1", fits} {
		if got := incidentKey(incident); got != incident {
			t.Errorf("got %s, want %s", got, incident)
		}
	}
	for _, incident := range []string{long, "i\n1", "https://evil.example/", ""} {
		if got, want := incidentKey(incident), heal.ID("i", incident); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestPagerDutyIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := (&pager{url: "https://events.pagerduty.com"}).open(t)
		begin := time.Now()
		var at []time.Duration
		line.Channel.(pagerDuty).round = roundTrip(func(*http.Request) (*http.Response, error) {
			at = append(at, time.Since(begin))
			return &http.Response{StatusCode: http.StatusAccepted, Body: http.NoBody}, nil
		})
		for range 3 {
			if err := line.Send(t.Context(), sample.Notification("pagerduty", "", sample.Drained())); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff([]time.Duration{0, 500 * time.Millisecond, time.Second}, at); diff != "" {
			t.Errorf("sent after (-want +got):\n%s", diff)
		}
	})
}

func TestPagerDutysSettingsAreChecked(t *testing.T) {
	for _, test := range []struct {
		key  config.Secret
		api  string
		want string // of the error; else of the URL
	}{
		{routingKey, "https://events.pagerduty.com", "https://events.pagerduty.com/v2/enqueue"},
		{routingKey, "https://events.eu.pagerduty.com/", "https://events.eu.pagerduty.com/v2/enqueue"},
		{routingKey, "https://proxy.example.com/pagerduty/v2/enqueue", "https://proxy.example.com/pagerduty/v2/enqueue"},
		{routingKey, "http://127.0.0.1:8080", "http://127.0.0.1:8080/v2/enqueue"},
		{"canary", "https://events.pagerduty.com", "pagerduty_routing_key: want 32 characters, got 6"},
		{"", "https://events.pagerduty.com", "pagerduty_routing_key: want 32 characters, got 0"},
		{routingKey, "http://events.pagerduty.com", "pagerduty_api_url: want https://, got http:// to events.pagerduty.com; http:// is only for a loopback host"},
	} {
		s := settings()
		s.PagerDutyEnabled, s.PagerDutyRoutingKey, s.PagerDutyAPIURL = true, test.key, test.api
		lines, err := Open(s, time.Second)
		got := fmt.Sprint(err)
		if err == nil {
			got = lines[0].Channel.(pagerDuty).url.String()
		}
		if got != test.want {
			t.Errorf("got %s\nwant %s", got, test.want)
		}
	}
}
