package command

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestASilenceIsAddedListedAndRemoved(t *testing.T) {
	dir, _ := system(t)
	at := []string{"--data-dir", dir, "--by", "anna"}
	out, err := execute(t, append([]string{"silence", "add", "-n", "shop", "--severity", "low,medium", "--for", "2h", "--reason", "the database moves"}, at...)...)
	if err != nil || !strings.Contains(out, "silent until") {
		t.Fatalf("add: %v, %s", err, out)
	}
	id, _, _ := strings.Cut(out, ":")
	out, err = execute(t, append([]string{"silence", "list"}, at...)...)
	if err != nil || !strings.Contains(out, id) || !strings.Contains(out, "severity=low,medium namespace=shop") || !strings.Contains(out, "the database moves") {
		t.Errorf("list: %v\n%s", err, out)
	}
	if out, err = execute(t, append([]string{"silence", "remove", id}, at...)...); err != nil || !strings.Contains(out, "ended") {
		t.Errorf("remove: %v, %s", err, out)
	}
	if out, err = execute(t, append([]string{"silence", "list"}, at...)...); err != nil || out != "no silence is in force\n" {
		t.Errorf("list: %v, %s", err, out)
	}
	if _, err = execute(t, append([]string{"silence", "remove", id}, at...)...); err == nil || !strings.Contains(err.Error(), "no silence "+id) {
		t.Errorf("removed twice: %v", err)
	}
}

func TestASilenceNeedsAReasonAnEndAndSomethingToBeAbout(t *testing.T) {
	for want, args := range map[string][]string{
		"reason: is empty": {"-n", "shop", "--for", "1h"},
		"match: is empty":  {"--for", "1h", "--reason", "x"},
		"want more than 0": {"-n", "shop", "--reason", "x"},
		`"loud"`:           {"--severity", "loud", "--for", "1h", "--reason", "x"},
	} {
		if _, err := execute(t, append([]string{"silence", "add"}, args...)...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", args, err, want)
		}
	}
}

func TestTheChannelsAreTriedAndEachSaysWhetherItTookTheMessage(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hook" {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer srv.Close()
	t.Setenv("SLACK_WEBHOOK_URL", srv.URL+"/CANARY")
	t.Setenv("WEBHOOK_URL", srv.URL+"/hook")
	out, err := execute(t, "notify", "test")
	if err == nil || strings.Count(out, "taken") != 2 || !strings.Contains(out, "403 Forbidden") || strings.Contains(out, "CANARY") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err = execute(t, "notify", "test", "slack"); err != nil || strings.Count(out, "\n") != 2 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestASampleIsShownAsPeopleAreToldOfIt(t *testing.T) {
	out, err := execute(t, "notify", "render", "failed")
	if err != nil || !strings.Contains(out, "NotReady → drain and replace failed") || !strings.Contains(out, "How to undo it") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := execute(t, "notify", "render", "lost"); err == nil || !strings.Contains(err.Error(), "want one of") {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "policy.yaml")
	text := `{templates: {headline: "{{upper .Severity}} {{.Object}} is {{.Phase}}", note: "ask in #ops"}, links: {dashboard: "https://grafana.example.com/{name}"}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err = execute(t, "notify", "render", "failed", "--notify-policy-file", file)
	for _, want := range []string{"CRITICAL Node/ip-10-0-3-17.eu-west-1.compute.internal is failed", "Note\n  ask in #ops", "dashboard     https://grafana.example.com/ip-10-0-3-17.eu-west-1.compute.internal"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v, want %q in\n%s", err, want, out)
		}
	}
	t.Setenv("SELFHEAL_NOTIFY_POLICY_FILE", file)
	if again, err := execute(t, "notify", "render", "failed"); err != nil || again != out {
		t.Errorf("by the environment: %v\n%s", err, again)
	}
	if err := os.WriteFile(file, []byte(`{templates: {headline: "{{.Nothing}}"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := execute(t, "notify", "render", "failed"); err == nil || !strings.Contains(err.Error(), "templates.headline") {
		t.Errorf("a template that cannot work: %v", err)
	}
}
