package channel

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
)

func TestAlertsAreWrittenAsEver(t *testing.T) {
	for name, r := range samples() {
		n := sample.Notification("alertmanager", "", r)
		if name == "drained" {
			n.Metadata = map[string]string{"report": "https://heal.example.com/incidents/1", "runbook": "https://wiki.example.com/nodes"}
		}
		golden(t, "alertmanager-"+name+".json", indented(t, renderAlerts(n, alertLasts)))
	}
}

func TestAnAlertFiresUntilTheFailureIsOver(t *testing.T) {
	to, got := double(t)
	s := settings()
	s.AlertmanagerURL = to
	line := openOne(t, s)
	if diff := cmp.Diff([]route.Listener{{Channel: "alertmanager", Audience: route.Record, Ends: true}}, line.Listeners); diff != "" {
		t.Errorf("listeners (-want +got):\n%s", diff)
	}
	unverified := sample.Healed()
	unverified.Verification = nil
	recovered := sample.Watched()
	recovered.Reason = heal.ReasonRecovered
	refused := sample.Refused()
	refused.Decision.Severity = heal.Critical
	now := sample.Noon.Add(time.Minute)
	firing := map[string]string{} // by labels, as Alertmanager keeps them
	for _, step := range []struct {
		result heal.Result
		want   []string
	}{
		{sample.Healed(), nil},
		{sample.Unproven(), []string{"high"}},
		{sample.Unproven(), []string{"high"}},
		{unverified, []string{"high"}},
		{refused, []string{"critical", "high"}},
		{recovered, nil},
		{sample.Unproven(), []string{"high"}},
		{sample.Healed(), nil},
	} {
		if err := line.Send(t.Context(), sample.Notification("alertmanager", "", step.result)); err != nil {
			t.Fatal(err)
		}
		r := <-got
		if r.path != "POST /api/v2/alerts" || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s with %q", r.path, r.header.Get("Content-Type"))
		}
		var alerts []alert
		if err := json.Unmarshal(r.body, &alerts); err != nil {
			t.Fatal(err)
		}
		for _, a := range alerts {
			if key := fmt.Sprint(a.Labels); a.EndsAt.After(now) {
				firing[key] = a.Labels["severity"]
			} else {
				delete(firing, key)
			}
		}
		if diff := cmp.Diff(step.want, slices.Sorted(maps.Values(firing))); diff != "" {
			t.Errorf("firing after %s (-want +got):\n%s", step.result.Reason, diff)
		}
	}
}

func TestAnAlertOfSeveralPodsLastsAsLongAsOneOfThemFails(t *testing.T) {
	for phase, over := range map[heal.Phase]bool{heal.PhaseActing: false, heal.PhaseFailed: false, heal.PhaseVerified: true, heal.PhaseResolved: true} {
		n := sample.Notification("alertmanager", "", sample.Healed())
		n.Phase = phase
		if got := !renderAlerts(n, time.Hour)[0].EndsAt.After(n.Origin.Time); got != over {
			t.Errorf("one pod is healed, the incident is %s: the alert ended %t, want %t", phase, got, over)
		}
	}
}

func TestAnAlertOutlivesTheNextAnnouncements(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{time.Second: 15 * time.Minute, 5 * time.Minute: 15 * time.Minute, time.Hour: 3 * time.Hour} {
		s := settings()
		s.AlertmanagerURL, s.RecoveryTimeout = "http://127.0.0.1:9093", timeout
		if got := openOne(t, s).Channel.(alertmanager).lasts; got != want {
			t.Errorf("recovery_timeout %s: fires for %s, want %s", timeout, got, want)
		}
	}
	n := sample.Notification("alertmanager", "", sample.Drained())
	if got, want := renderAlerts(n, time.Hour)[0].EndsAt, n.Origin.Time.Add(time.Hour); !got.Equal(want) {
		t.Errorf("fires until %s, want %s", got, want)
	}
}

func TestNoAlertEndsBeforeItBegins(t *testing.T) {
	r := sample.Healed()
	r.Decision.Failure.FirstSeen = sample.Noon.Add(time.Hour) // by a clock that is ahead
	for _, r := range []heal.Result{r, sample.Healed(), sample.Drained()} {
		n := sample.Notification("alertmanager", "", r)
		n.Origin = heal.Origin{}
		for _, a := range renderAlerts(n, alertLasts) {
			if a.StartsAt.IsZero() || a.EndsAt.Before(a.StartsAt) {
				t.Errorf("%s: from %s to %s", r.Reason, a.StartsAt, a.EndsAt)
			}
		}
	}
}

// badAlert is what Alertmanager itself would refuse, and what it would act upon.
func badAlert(a alert) []string {
	var wrong []string
	name := regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	if u, err := url.Parse(a.GeneratorURL); err != nil || a.GeneratorURL != "" && u.Scheme != "https" {
		wrong = append(wrong, "generatorURL "+a.GeneratorURL)
	}
	if len(a.Labels) == 0 {
		wrong = append(wrong, "no labels")
	}
	for _, set := range []map[string]string{a.Labels, a.Annotations} {
		for key, value := range set {
			lines := strings.ReplaceAll(value, "\n", " ")
			if !name.MatchString(key) || !utf8.ValidString(value) || heal.Clean(lines, 8<<10) != lines || strings.Contains(value, "://") {
				wrong = append(wrong, fmt.Sprintf("%s is %q", key, value))
			}
		}
	}
	for key, value := range a.Labels {
		if value == "" || len(value) > 512 || strings.Contains(value, "\n") {
			wrong = append(wrong, fmt.Sprintf("label %s is %q", key, value))
		}
	}
	return wrong
}

func TestNothingForeignIsActiveInAnAlert(t *testing.T) {
	for _, text := range hostile() {
		for _, a := range renderAlerts(sample.Notification("alertmanager", "", everywhere(text)), alertLasts) {
			if wrong := badAlert(a); len(wrong) > 0 {
				t.Errorf("%.80q: %q", text, wrong)
			}
		}
	}
}

func TestAlertmanagerMayBeReachedInTheClusterWithoutACertificate(t *testing.T) {
	const refused = "alertmanager_url: want https://, got http:// to "
	const only = "; http:// is only for a loopback host and for name.namespace.svc"
	for api, want := range map[string]string{ // of the error; else of the URL
		"https://alertmanager.example.com/prefix/":                   "https://alertmanager.example.com/prefix/api/v2/alerts",
		"http://alertmanager.monitoring.svc:9093":                    "http://alertmanager.monitoring.svc:9093/api/v2/alerts",
		"http://alertmanager-main.monitoring.svc.cluster.local:9093": "http://alertmanager-main.monitoring.svc.cluster.local:9093/api/v2/alerts",
		"http://127.0.0.1:9093":                                      "http://127.0.0.1:9093/api/v2/alerts",
		"http://alertmanager.example.com":                            refused + "alertmanager.example.com" + only,
		"http://169.254.169.254":                                     refused + "169.254.169.254" + only,
		"http://x.svc":                                               refused + "x.svc" + only,
	} {
		s := settings()
		s.AlertmanagerURL = api
		lines, err := Open(s, time.Second)
		got := fmt.Sprint(err)
		if err == nil {
			got = lines[0].Channel.(alertmanager).url.String()
		}
		if got != want {
			t.Errorf("got %s\nwant %s", got, want)
		}
	}
}
