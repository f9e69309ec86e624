package double

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// RoutingKey is the one that PagerDuty knows.
const RoutingKey = "R0CANARYR0CANARYR0CANARYR0CANARY"

// PagerDuty is the Events API v2.
type PagerDuty struct {
	URL string

	mu      sync.Mutex
	alerts  map[string]string // by dedup_key
	rang    map[string]int    // how often somebody was called because of it
	firstAt map[string]time.Time
	events  []string // action and key
	changes []string // summaries
	wrong   []string
}

// NewPagerDuty runs PagerDuty until the test ends.
func NewPagerDuty(t testing.TB) *PagerDuty {
	p := &PagerDuty{alerts: map[string]string{}, rang: map[string]int{}, firstAt: map[string]time.Time{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v2/enqueue", p.enqueue)
	mux.HandleFunc("POST /v2/change/enqueue", p.change)
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	p.URL = srv.URL
	return p
}

func (p *PagerDuty) enqueue(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	var e struct {
		RoutingKey string `json:"routing_key"`
		Action     string `json:"event_action"`
		Key        string `json:"dedup_key"`
		Payload    *struct{ Summary, Source, Severity string }
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	bad := func(format string, args ...any) { p.wrong = append(p.wrong, fmt.Sprintf(format, args...)) }
	before := len(p.wrong)
	switch err := json.Unmarshal(body, &e); {
	case err != nil:
		bad("%v", err)
	case e.RoutingKey != RoutingKey:
		bad("routing_key")
	case len(e.Key) > 255 || e.Key == "":
		bad("dedup_key of %d", len(e.Key))
	case !slices.Contains([]string{"trigger", "acknowledge", "resolve"}, e.Action):
		bad("event_action %q", e.Action)
	case e.Action == "trigger" && (e.Payload == nil || e.Payload.Summary == "" || e.Payload.Source == "" || utf8.RuneCountInString(e.Payload.Summary) > 1024):
		bad("trigger without summary and source: %s", body)
	}
	if len(p.wrong) > before {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	open := p.alerts[e.Key] == "trigger" || p.alerts[e.Key] == "acknowledge"
	switch {
	case e.Action == "trigger" && !open:
		p.alerts[e.Key] = "trigger"
		p.rang[e.Key]++
		if p.firstAt[e.Key].IsZero() {
			p.firstAt[e.Key] = time.Now()
		}
	case e.Action != "trigger" && open:
		p.alerts[e.Key] = e.Action
	}
	p.events = append(p.events, e.Action+" "+e.Key)
	w.WriteHeader(http.StatusAccepted)
	_, _ = io.WriteString(w, `{"status":"success"}`)
}

func (p *PagerDuty) change(w http.ResponseWriter, r *http.Request) {
	var c struct {
		RoutingKey string `json:"routing_key"`
		Payload    struct{ Summary, Source, Timestamp string }
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := json.NewDecoder(r.Body).Decode(&c)
	_, timeErr := time.Parse(time.RFC3339Nano, c.Payload.Timestamp)
	if err != nil || c.RoutingKey != RoutingKey || c.Payload.Summary == "" || timeErr != nil {
		p.wrong = append(p.wrong, fmt.Sprintf("change %+v: %v", c, err))
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	p.changes = append(p.changes, c.Payload.Summary)
	w.WriteHeader(http.StatusAccepted)
}

// Events are the actions about a key, in order, with the key of the alert for a
// person beside it as "-person".
func (p *PagerDuty) Events(key string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for _, e := range p.events {
		if action, of, _ := strings.Cut(e, " "); strings.HasPrefix(of, key) {
			all = append(all, action+strings.TrimPrefix(of, key))
		}
	}
	return all
}

// Alerts are the states of all alerts, Rang how often each called somebody, and
// First when it first did.
func (p *PagerDuty) Alerts() (state map[string]string, rang map[string]int, first map[string]time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	state, rang, first = map[string]string{}, map[string]int{}, map[string]time.Time{}
	for k, v := range p.alerts {
		state[k], rang[k], first[k] = v, p.rang[k], p.firstAt[k]
	}
	return state, rang, first
}

// Changes are the summaries of change events.
func (p *PagerDuty) Changes() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.changes)
}

// Wrong is all that PagerDuty would have refused.
func (p *PagerDuty) Wrong() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.wrong)
}
