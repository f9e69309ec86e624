package command

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/selfheal/selfheal/cli/internal/report"
)

func TestAnIncidentIsReportedInEachForm(t *testing.T) {
	s := newSample(t)
	incident := crash("checkout", 0).IncidentID()
	dir := t.TempDir()
	for name, want := range map[string]string{
		"it.html": "<h1>CrashLoopBackOff of shop/Deployment/checkout</h1>",
		"it.md":   "# CrashLoopBackOff of shop/Deployment/checkout\n\n**healed.**",
		"it.json": `"state": "healed"`,
	} {
		file := filepath.Join(dir, name)
		if out, err := s.run("report", incident, "-o", file, "--since", begin); err != nil || out != "written to "+file+"\n" {
			t.Fatalf("printed %q, %v", out, err)
		}
		got, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: %v, want %q in\n%s", name, err, want, got)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 3 {
		t.Errorf("left behind: %v, %v", left, err)
	}

	out, err := s.run("report", incident, "--format", "json", "--since", begin)
	var got report.Report
	if err != nil || json.Unmarshal([]byte(out), &got) != nil {
		t.Fatalf("printed %s, %v", out, err)
	}
	if len(got.Failures) != 1 || len(got.Decisions) != 1 || got.Decisions[0].Result == nil || len(got.Timeline) < 4 || got.Unread != 0 {
		t.Errorf("got %+v", got)
	}
	if out, err := s.run("report", incident, "--since", begin); err != nil || !strings.HasPrefix(out, "# CrashLoopBackOff of ") {
		t.Errorf("without a form: %q, %v", out, err)
	}
	if _, err := s.run("report", "i-none", "--since", begin); err == nil || !strings.Contains(err.Error(), "no incident i-none since ") {
		t.Errorf("an incident that is not there: %v", err)
	}
}

func TestAReportThatCannotBeMadeIsAMistakeOfTheCaller(t *testing.T) {
	for want, args := range map[string][]string{
		"which incident?":                         {},
		`unexpected argument "b"`:                 {"a", "b"},
		`"a b" is not the id of an incident`:      {"a b"},
		`--format "pdf": want one of html, md, j`: {"i-1", "--format", "pdf"},
	} {
		_, err := execute(t, append([]string{"report"}, args...)...)
		var usage usageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}
