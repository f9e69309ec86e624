package command

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// natsTool is the nats command line, which `make test` builds.
func natsTool(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", "..", ".cache", "bin", "nats-v0.4.0"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; `make nats` builds it", err)
	}
	return path
}

// commandsOf are the lines of the code blocks of a page, by language.
func commandsOf(page string) map[string][]string {
	all := map[string][]string{}
	lang, inside := "", false
	for line := range strings.Lines(page) {
		line = strings.TrimSuffix(line, "\n")
		switch rest, fence := strings.CutPrefix(line, "```"); {
		case fence && inside:
			inside = false
		case fence:
			lang, inside = rest, true
		case inside && line != "":
			all[lang] = append(all[lang], line)
		}
	}
	return all
}

func TestEveryCommandOfTheAuditPageWorks(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "audit.md"))
	if err != nil {
		t.Fatal(err)
	}
	tool := natsTool(t)
	s := newSample(t)
	home := t.TempDir()
	nats := func(ctx context.Context, line string) (string, error) {
		rest, ok := strings.CutPrefix(line, "nats ")
		if !ok {
			t.Fatalf("%q is no nats command", line)
		}
		// As a shell would take it apart, and with no context of this machine.
		cmd := exec.CommandContext(ctx, "sh", "-c", `exec "$0" --server "$1" `+rest, tool, s.URL())
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CONFIG_HOME="+home, "NATS_CONTEXT=")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	commands := commandsOf(string(page))
	if len(commands["sh"]) < 10 || len(commands["sh-refused"]) < 2 {
		t.Fatalf("the page has %d commands, and %d that are refused", len(commands["sh"]), len(commands["sh-refused"]))
	}
	for _, line := range commands["sh"] {
		t.Run(line, func(t *testing.T) {
			if strings.HasPrefix(line, "nats sub --count") {
				s.whileListening(t, ctx, func(ctx context.Context) (string, error) { return nats(ctx, line) })
				return
			}
			out, err := nats(ctx, line)
			if err != nil || strings.TrimSpace(out) == "" {
				t.Errorf("%v: %s", err, out)
			}
			want := "selfheal.v1"
			if strings.Contains(line, "info") {
				want = "SELFHEAL_RESULTS" // a source
			}
			if strings.Contains(line, "--raw") {
				want = `"specversion":"1.0"`
			}
			if strings.Contains(line, ".failed.") {
				want = "" // nothing has failed
			}
			if !strings.Contains(out, want) {
				t.Errorf("it does not say %q:\n%s", want, out)
			}
		})
	}
	for _, line := range commands["sh-refused"] {
		t.Run(line, func(t *testing.T) {
			out, err := nats(ctx, line)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(out, "not permitted") && !strings.Contains(out, "denied") && !strings.Contains(out, "not allowed") {
				t.Errorf("it was not refused: %v\n%s", err, out)
			}
		})
	}
}

// whileListening publishes until a subscriber has got what it waits for.
func (s *sample) whileListening(t *testing.T, ctx context.Context, listen func(context.Context) (string, error)) {
	t.Helper()
	type heard struct {
		out string
		err error
	}
	got := make(chan heard, 1)
	go func() {
		out, err := listen(ctx)
		got <- heard{out, err}
	}()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case h := <-got:
			if h.err != nil || !strings.Contains(h.out, `"specversion":"1.0"`) {
				t.Errorf("%v: %s", h.err, h.out)
			}
			return
		case <-tick.C: // again and again, as nobody says when it listens
			for _, root := range []string{"failures", "decisions", "results"} {
				s.PublishRaw(t, "selfheal.v1.test."+root+".x", nil, []byte(`{"specversion":"1.0"}`))
			}
		}
	}
}
