// Package told breaks a real control plane, has the four real binaries try in
// vain to heal it, and counts what people hear.
package told

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

func TestMain(m *testing.M) { os.Exit(harness.Main(m, kubetest.Options{Nodes: 2})) }

// People are Slack by a webhook, and PagerDuty.
type people struct {
	url string

	mu        sync.Mutex
	headlines []string          // of Slack's messages
	alerts    map[string]string // PagerDuty's, by dedup_key: the last event that meant something
	rang      map[string]int
	resolved  map[string]int
}

func newPeople(t *testing.T) *people {
	p := &people{alerts: map[string]string{}, rang: map[string]int{}, resolved: map[string]int{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /slack", func(w http.ResponseWriter, r *http.Request) {
		var m struct {
			Blocks []struct{ Text struct{ Text string } }
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil || len(m.Blocks) == 0 {
			http.Error(w, "invalid_blocks", http.StatusBadRequest)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.headlines = append(p.headlines, m.Blocks[0].Text.Text)
	})
	mux.HandleFunc("POST /v2/enqueue", func(w http.ResponseWriter, r *http.Request) {
		var e struct {
			Action string `json:"event_action"`
			Key    string `json:"dedup_key"`
		}
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		open := p.alerts[e.Key] == "trigger" || p.alerts[e.Key] == "acknowledge"
		switch {
		case e.Action == "trigger" && !open:
			p.rang[e.Key]++
			p.alerts[e.Key] = e.Action
		case e.Action != "trigger" && open:
			if p.alerts[e.Key] = e.Action; e.Action == "resolve" {
				p.resolved[e.Key]++
			}
		}
		w.WriteHeader(http.StatusAccepted)
	})
	mux.HandleFunc("POST /v2/change/enqueue", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) })
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	p.url = srv.URL
	return p
}

func (p *people) heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.headlines)
}

// unresolved are the alerts that are open.
func (p *people) unresolved() (keys []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, state := range p.alerts {
		if state != "resolve" {
			keys = append(keys, key+" "+state)
		}
	}
	return keys
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// Several tries that do not help, each of which takes a pod away, and the end by
// a person: whoever reads a webhook's messages has three of them.
func TestOfAnImageThatNeverWorksPeopleHearTheBeginningTheHandOverAndTheEnd(t *testing.T) {
	c := kubetest.Get(t)
	kube, ns, hear := c.Client(t), c.Namespace(t), newPeople(t)
	p := harness.Start(t, c, map[string]string{
		"SELFHEAL_POLICY_FILE":        write(t, "policy.yaml", "name: quick\nguards:\n  actions_per_minute: 3000\n  backoff: {first: 2, longest: 4}\n"),
		"SELFHEAL_NOTIFY_POLICY_FILE": write(t, "notify.yaml", "routes: [{to: ['slack:#incidents', pagerduty]}]\ngroup: {settle: 8s}\n"),
		"HEALTH_CHECK_INTERVAL":       "1", "POD_RESTART_THRESHOLD": "1", "RECOVERY_TIMEOUT": "60", "VERIFY_WINDOW": "3",
		"SLACK_INCIDENT_WEBHOOK_URL": hear.url + "/slack",
		"PAGERDUTY_ENABLED":          "true", "PAGERDUTY_ROUTING_KEY": strings.Repeat("r", 32), "PAGERDUTY_API_URL": hear.url,
	})
	record := harness.Listen(t, p.Bus(t))
	apps := kube.AppsV1().Deployments(ns)
	if _, err := apps.Create(t.Context(), harness.Deployment("cart", "shop/cart:broken", 1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	harness.WaitFor(t, 120*time.Second, "word that a person must look", func() error {
		if said := hear.heard(); !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, "a person must look") }) {
			return fmt.Errorf("heard %q", said)
		}
		return nil
	})
	tries := 0
	for _, e := range record.Results() {
		if e.Data.Outcome == heal.Failed {
			tries++
		}
	}
	if tries < 2 {
		t.Errorf("%d tries failed, want several", tries)
	}
	if err := apps.Delete(t.Context(), "cart", metav1.DeleteOptions{}); err != nil { // the person's mend
		t.Fatal(err)
	}
	harness.WaitFor(t, 60*time.Second, "the end on PagerDuty, and three messages", func() error {
		if said, open := hear.heard(), hear.unresolved(); len(said) < 3 || len(open) > 0 {
			return fmt.Errorf("heard %q, open: %q", said, open)
		}
		return nil
	})
	said := hear.heard()
	// It begins with a try in vain, or with one that a guard put off.
	for i, want := range []string{"restart ", "given up, a person must look", "over after"} {
		if !strings.Contains(said[min(i, len(said)-1)], want) {
			t.Errorf("message %d is %q, want it to say %q", i+1, said[i], want)
		}
	}
	if len(said) != 3 {
		t.Errorf("%d messages for %d tries: %q", len(said), tries, said)
	}
	hear.mu.Lock()
	defer hear.mu.Unlock()
	for key, n := range hear.rang {
		if n != 1 || hear.resolved[key] != 1 {
			t.Errorf("%s rang %d times and was resolved %d times", key, n, hear.resolved[key])
		}
	}
	t.Logf("%d tries in vain: %d messages %q; alerts that rang: %v", tries, len(said), said, hear.rang)
}
