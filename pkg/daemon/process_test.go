package daemon

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
	"go.uber.org/goleak"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/config"
)

// asService in the environment makes the test binary a service's process,
// whose Run behaves as the value says.
const asService = "DAEMON_TEST_RUN"

func TestMain(m *testing.M) {
	if how := os.Getenv(asService); how != "" {
		Main(Service{Name: "watcher", Summary: "Watches, for a test.", Run: behaviours[how]})
	}
	// A NATS server that is stopped while somebody creates a stream forgets the
	// stream's store. It is the test's, and not what is tested here.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*fileStore).flushStreamStateLoop"),
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server/ats.Register.func1"))
}

var behaviours = map[string]func(context.Context, *Daemon) error{
	"waits": func(ctx context.Context, d *Daemon) error {
		d.Log.Info("running", "mode", d.Settings.Mode)
		d.Log.Debug("in detail")
		<-ctx.Done()
		return ctx.Err()
	},
	"ends": func(context.Context, *Daemon) error { return nil },
	"dislikes mode approve": func(ctx context.Context, d *Daemon) error {
		if d.Settings.Mode == "approve" {
			return config.Invalid(errors.New("nobody is here to approve"))
		}
		d.Log.Info("running", "mode", d.Settings.Mode)
		<-ctx.Done()
		return nil
	},
	"fails": func(context.Context, *Daemon) error {
		return errors.New("the disk is on fire")
	},
	"dislikes its settings": func(context.Context, *Daemon) error {
		return fmt.Errorf("policy: %w", config.Invalid(errors.New("rule 3 is wrong")))
	},
	"ignores the end": func(_ context.Context, d *Daemon) error {
		d.Log.Info("running", "mode", d.Settings.Mode)
		select {}
	},
}

// A child is a service's process under test.
type child struct {
	cmd   *exec.Cmd
	lines chan map[string]any // its log; closed at its end
	seen  []string            // every line it wrote to stderr, for messages

	stdout bytes.Buffer
	done   sync.WaitGroup
}

// start runs the test binary as a service with nothing but environ.
func start(t *testing.T, how string, environ []string, args ...string) *child {
	t.Helper()
	return startPlain(t, how, append([]string{"SELFHEAL_HTTP_ADDR=127.0.0.1:0"}, environ...), args...)
}

// startPlain leaves the HTTP address to environ and args too.
func startPlain(t *testing.T, how string, environ []string, args ...string) *child {
	t.Helper()
	c := &child{cmd: exec.Command(os.Args[0], args...), lines: make(chan map[string]any, 1024)}
	c.cmd.Env = append([]string{asService + "=" + how, "GORACE=atexit_sleep_ms=0", "GOCOVERDIR=" + t.TempDir()}, environ...)
	c.cmd.Stdout = &c.stdout
	stderr, err := c.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c.done.Go(func() {
		defer close(c.lines)
		for scan := bufio.NewScanner(stderr); scan.Scan(); {
			c.seen = append(c.seen, scan.Text())
			record := map[string]any{}
			if json.Unmarshal(scan.Bytes(), &record) == nil {
				c.lines <- record
			}
		}
	})
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // usually it has ended
		c.done.Wait()
		_ = c.cmd.Wait()
	})
	return c
}

// logged waits for a record with that message.
func (c *child) logged(t *testing.T, msg string) map[string]any {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case record, ok := <-c.lines:
			if !ok {
				t.Fatalf("ended without logging %q:\n%s", msg, strings.Join(c.seen, "\n"))
			}
			if record["msg"] == msg {
				return record
			}
		case <-deadline:
			t.Fatalf("%q was not logged within 30 s", msg)
		}
	}
}

// exit waits for the end and returns the exit code and what went to stderr.
func (c *child) exit(t *testing.T) (int, string) {
	t.Helper()
	c.done.Wait()
	err := c.cmd.Wait()
	if exited := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exited) {
		t.Fatal(err)
	}
	return c.cmd.ProcessState.ExitCode(), strings.Join(c.seen, "\n")
}

func (c *child) signal(t *testing.T, s os.Signal) {
	t.Helper()
	if err := c.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// get asks the process, once it serves.
func get(t *testing.T, addr, path string) (int, map[string]any) {
	t.Helper()
	resp, err := http.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	body := map[string]any{}
	if err := json.Unmarshal(data, &body); err != nil {
		body["text"] = string(data)
	}
	return resp.StatusCode, body
}

// eventually asks until the answer has the code.
func eventually(t *testing.T, addr, path string, code int) map[string]any {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		got, body := get(t, addr, path)
		if got == code {
			return body
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s is still %d after 30 s, want %d: %v", path, got, code, body)
		}
	}
}

// Nobody listens there: port 1 is tcpmux.
const noNATS = "NATS_URL=nats://127.0.0.1:1"

func TestSIGTERMEndsTheProcessWithCodeZero(t *testing.T) {
	t.Parallel()
	for _, s := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			c := start(t, "waits", []string{"NATS_URL=" + bustest.Listen(t).URL()})
			c.logged(t, "running")
			c.signal(t, s)
			if code, stderr := c.exit(t); code != 0 || !strings.Contains(stderr, `"msg":"stopped"`) {
				t.Errorf("got exit code %d, want 0 and a last word:\n%s", code, stderr)
			}
		})
	}
}

func TestProcessRunsWithoutNATSAndBecomesReadyWhenItAppears(t *testing.T) {
	t.Parallel()
	nats := bustest.Listen(t)
	url := nats.URL()
	nats.Stop() // its address is known, but nobody is there

	c := start(t, "waits", []string{"NATS_URL=" + url})
	addr := c.logged(t, "serving http")["addr"].(string)
	c.logged(t, "running")

	code, ready := get(t, addr, "/ready")
	checks, _ := ready["checks"].(map[string]any)
	if code != 503 || ready["status"] != "not_ready" || ready["nats_connection"] != false || ready["monitoring_active"] != true || checks["nats_connection"] == "ok" {
		t.Errorf("got %d %v, want 503 for want of NATS", code, ready)
	}
	if code, health := get(t, addr, "/health"); code != 200 || health["status"] != "healthy" {
		t.Errorf("got %d %v, want healthy without NATS", code, health)
	}

	nats.Restart(t)
	ready = eventually(t, addr, "/ready", 200)
	want := map[string]any{
		"status": "ready", "nats_connection": true, "monitoring_active": true,
		"checks": map[string]any{"nats_connection": "ok", "monitoring_active": "ok"},
	}
	if diff := cmp.Diff(ready, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	c.signal(t, syscall.SIGTERM)
	if code, stderr := c.exit(t); code != 0 {
		t.Errorf("got exit code %d, want 0:\n%s", code, stderr)
	}
}

func TestSIGTERMEndsTheProcessAlsoWithoutNATS(t *testing.T) {
	t.Parallel()
	c := start(t, "waits", []string{noNATS})
	c.logged(t, "running")
	c.signal(t, syscall.SIGTERM)
	if code, stderr := c.exit(t); code != 0 {
		t.Errorf("got exit code %d, want 0:\n%s", code, stderr)
	}
}

func TestExitCodeSaysWhoseFaultItIs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	seed := filepath.Join(dir, "seed")
	if err := os.WriteFile(seed, []byte("SUnonsense"), 0o400); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		how     string
		environ []string
		args    []string
		code    int
		stderr  []string
	}{
		"a service that has nothing more to do": {"ends", []string{noNATS}, nil, 0, []string{`"msg":"stopped"`}},
		"a service that fails":                  {"fails", []string{noNATS}, nil, 1, []string{"the disk is on fire", `"exit_code":1`}},
		"an address that is taken or forbidden": {"waits", []string{noNATS}, []string{"--http-addr", "192.0.2.1:80"}, 1, []string{"http_addr 192.0.2.1:80"}},
		"wrong settings": {"waits", []string{"POD_RESTART_THRESHOLD=0", "SELFHEAL_MOD=x"}, []string{"--mode", "ACT"}, 2, []string{
			"watcher: not started, because of its settings:\n",
			"\n  environment SELFHEAL_MOD: unknown name; did you mean \"SELFHEAL_MODE\"?\n",
			"\n  pod_restart_threshold (environment POD_RESTART_THRESHOLD): want a whole number from 1 to 1000, got \"0\"\n",
			"\n  mode (flag --mode): want one of observe, approve, auto, got \"ACT\"; did you mean \"auto\"?\n",
			"\nAll settings: watcher --help",
		}},
		"an unknown flag":                   {"waits", nil, []string{"--nonsense"}, 2, []string{"flag --nonsense: unknown"}},
		"settings that the service rejects": {"dislikes its settings", []string{noNATS}, nil, 2, []string{"policy: rule 3 is wrong", `"exit_code":2`}},
		"settings that the bus rejects":     {"waits", []string{noNATS, "NATS_NKEY=" + seed}, nil, 2, []string{"nats_nkey", `"exit_code":2`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			code, stderr := start(t, tt.how, tt.environ, tt.args...).exit(t)
			if code != tt.code {
				t.Errorf("got exit code %d, want %d", code, tt.code)
			}
			for _, want := range tt.stderr {
				if !strings.Contains(stderr+"\n", want) {
					t.Errorf("got  %s\nwant %q in it", stderr, want)
				}
			}
		})
	}
}

func TestRightThatNATSRefusesEndsTheProcessWithCodeThree(t *testing.T) {
	t.Parallel()
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	seed := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(seed, secret, 0o400); err != nil {
		t.Fatal(err)
	}
	nats := bustest.Configure(t, server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT,
		Nkeys: []*server.NkeyUser{{Nkey: public, Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Deny: []string{"$JS.API.>"}},
			Subscribe: &server.SubjectPermission{Allow: []string{">"}},
		}}},
	})
	code, stderr := start(t, "waits", []string{"NATS_URL=" + nats.URL(), "NATS_NKEY=" + seed}).exit(t)
	if code != 3 || !strings.Contains(stderr, "permission denied") || !strings.Contains(stderr, "$JS.API") {
		t.Errorf("got exit code %d, want 3 and the refused subject:\n%s", code, stderr)
	}
}

func TestSecondSignalEndsTheProcessAtOnce(t *testing.T) {
	t.Parallel()
	c := start(t, "ignores the end", []string{noNATS})
	c.logged(t, "running")
	c.signal(t, syscall.SIGTERM)
	c.logged(t, "stopping; finishing what is under way")
	c.signal(t, syscall.SIGTERM)
	if code, stderr := c.exit(t); code != 1 || !strings.Contains(stderr, `"still_running":"the service watcher"`) {
		t.Errorf("got exit code %d, want 1 and what was still running:\n%s", code, stderr)
	}
}

func TestNewSettingsStartTheServiceAgainAndBadOnesDoNot(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "settings.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	token := filepath.Join(filepath.Dir(file), "token")
	if err := os.WriteFile(token, []byte(canary+"1"), 0o600); err != nil {
		t.Fatal(err)
	}
	write("mode: observe\n")
	c := start(t, "waits", []string{noNATS, "SLACK_BOT_TOKEN_FILE=" + token}, "--config", file)
	addr := c.logged(t, "serving http")["addr"].(string)
	if got := c.logged(t, "running")["mode"]; got != "observe" {
		t.Errorf("got mode %v, want observe", got)
	}

	write("mode: ACT\n")
	if got := fmt.Sprint(c.logged(t, "new settings are invalid; keeping the old ones")["err"]); !strings.Contains(got, `got "ACT"`) {
		t.Errorf("got %s, want the bad value to be named", got)
	}
	if _, metrics := get(t, addr, "/metrics"); !strings.Contains(fmt.Sprint(metrics), "\nself_healing_config_last_reload_successful 0\n") {
		t.Error("want self_healing_config_last_reload_successful 0")
	}

	write("mode: approve\ndebug_mode: true\n")
	if err := os.WriteFile(token, []byte(canary+"2"), 0o600); err != nil {
		t.Fatal(err)
	}
	changed := c.logged(t, "settings changed; starting again with the new ones")
	if diff := cmp.Diff(changed["keys"], []any{"mode", "slack_bot_token", "debug_mode"}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	if got := c.logged(t, "running")["mode"]; got != "approve" {
		t.Errorf("got mode %v, want approve", got)
	}
	c.logged(t, "in detail") // at level debug, as the new settings say
	if _, metrics := get(t, addr, "/metrics"); !strings.Contains(fmt.Sprint(metrics), "\nself_healing_config_last_reload_successful 1\n") {
		t.Error("want self_healing_config_last_reload_successful 1")
	}

	c.signal(t, syscall.SIGTERM)
	code, stderr := c.exit(t)
	if code != 0 || strings.Contains(stderr, canary) {
		t.Errorf("got exit code %d, want 0 and no secret in the log:\n%s", code, stderr)
	}
}

func TestNewSettingsThatTheServiceRefusesAreTakenBack(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "settings.yaml")
	write := func(mode string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("mode: "+mode+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("auto")
	c := start(t, "dislikes mode approve", []string{noNATS}, "--config", file)
	addr := c.logged(t, "serving http")["addr"].(string)
	c.logged(t, "running")

	write("approve")
	refused := c.logged(t, "the service refuses the new settings; starting again with the old ones")
	if refused["err"] != "nobody is here to approve" {
		t.Errorf("got %v, want the service's reason", refused["err"])
	}
	if got := c.logged(t, "running")["mode"]; got != "auto" {
		t.Errorf("got mode %v, want auto as before", got)
	}
	if _, metrics := get(t, addr, "/metrics"); !strings.Contains(fmt.Sprint(metrics), "\nself_healing_config_last_reload_successful 0\n") {
		t.Error("want self_healing_config_last_reload_successful 0")
	}

	write("observe")
	if got := c.logged(t, "running")["mode"]; got != "observe" {
		t.Errorf("got mode %v, want observe", got)
	}
}

func TestAddressCanBeMovedWhileItRuns(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "settings.yaml")
	if err := os.WriteFile(file, []byte("http_addr: 127.0.0.1:0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startPlain(t, "waits", []string{noNATS}, "--config", file)
	first := c.logged(t, "serving http")["addr"].(string)
	c.logged(t, "running")
	if err := os.WriteFile(file, []byte("http_addr: localhost:0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := c.logged(t, "serving http")["addr"].(string)
	if code, _ := get(t, second, "/health"); code != 200 {
		t.Errorf("got %d at the new address, want 200", code)
	}
	c.logged(t, "running")
	if _, err := http.Get("http://" + first + "/health"); err == nil {
		t.Error("the old address still answers")
	}
	c.signal(t, syscall.SIGTERM)
	if code, stderr := c.exit(t); code != 0 {
		t.Errorf("got exit code %d, want 0:\n%s", code, stderr)
	}
}

const canary = "canary-7f3a"

func TestProcessNeverPrintsASecret(t *testing.T) {
	t.Parallel()
	environ := []string{
		noNATS, "DEBUG_MODE=1",
		"SLACK_WEBHOOK_URL=https://hooks.slack.com/" + canary, "SLACK_INCIDENT_WEBHOOK_URL=https://hooks.slack.com/" + canary,
		"SLACK_BOT_TOKEN=xoxb-" + canary, "EMAIL_PASSWORD=" + canary, "PAGERDUTY_ROUTING_KEY=" + canary, "WEBHOOK_URL=https://x/" + canary,
	}
	c := start(t, "waits", environ)
	addr := c.logged(t, "serving http")["addr"].(string)
	c.logged(t, "running")
	var answers []string
	for _, path := range []string{"/health", "/ready", "/status", "/metrics", "/nothing"} {
		_, body := get(t, addr, path)
		answers = append(answers, fmt.Sprint(body))
	}
	c.signal(t, syscall.SIGTERM)
	_, stderr := c.exit(t)
	if !strings.Contains(stderr, `"slack_bot_token":"***"`) {
		t.Errorf("want the log to say that a token is set:\n%s", stderr)
	}
	_, bad := start(t, "waits", append(environ, "SELFHEAL_SLACK_WEBHOOK_URL=ftp://x/"+canary), "--email-password", canary).exit(t)
	for _, text := range append(answers, stderr, bad) {
		if strings.Contains(text, canary) {
			t.Errorf("the secret is in %s", text)
		}
	}
}

func TestLogOfAProcessSaysWhoAndWhere(t *testing.T) {
	t.Parallel()
	c := start(t, "waits", []string{noNATS, "SELFHEAL_CLUSTER=eu-1"}, "--dry-run")
	starting := c.logged(t, "starting")
	if diff := cmp.Diff(starting["settings"], map[string]any{"cluster": "eu-1", "dry_run": "true", "nats_url": "nats://127.0.0.1:1", "http_addr": "127.0.0.1:0"}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
	running := c.logged(t, "running")
	delete(running, "time")
	want := map[string]any{"level": "INFO", "msg": "running", "service": "watcher", "cluster": "eu-1", "mode": "auto"}
	if diff := cmp.Diff(running, want); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestHelpAndVersionGoToStandardOutput(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{"--help": "watcher: Watches, for a test.\n\nUsage: watcher [flags]\n", "--version": versionLine("watcher") + "\n"} {
		t.Run(arg, func(t *testing.T) {
			c := start(t, "waits", []string{"DRY_RUN=perhaps"}, arg)
			code, stderr := c.exit(t)
			if code != 0 || stderr != "" || !strings.HasPrefix(c.stdout.String(), want) {
				t.Errorf("got exit code %d, stderr %q, stdout %q\nwant 0, nothing and %q", code, stderr, c.stdout.String(), want)
			}
		})
	}
}
