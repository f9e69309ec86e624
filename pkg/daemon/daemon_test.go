package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/config"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing")

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// asked is the answer of p to one request.
func asked(t *testing.T, p *process, method, path string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	p.handler().ServeHTTP(w, r)
	body, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return w.Result(), string(body)
}

func fields(t *testing.T, body string) map[string]any {
	t.Helper()
	got := map[string]any{}
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return got
}

func TestHealthIsAboutTheProcessAlone(t *testing.T) {
	for _, path := range []string{"/health", "/livez", "/healthz"} {
		t.Run(path, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProcess(Service{Name: "watcher"}, quiet()) // no bus, no Run
				<-time.After(stuckAfter)
				resp, body := asked(t, p, "GET", path)
				want := map[string]any{"status": "healthy", "timestamp": float64(time.Now().UnixMilli()) / 1000, "uptime": 60.0}
				if diff := cmp.Diff(fields(t, body), want); diff != "" || resp.StatusCode != http.StatusOK {
					t.Errorf("%d (-got +want)\n%s", resp.StatusCode, diff)
				}
				<-time.After(time.Second)
				resp, body = asked(t, p, "GET", path)
				if resp.StatusCode != http.StatusServiceUnavailable || fields(t, body)["status"] != "stuck" {
					t.Errorf("got %d %s, want 503 without a heartbeat for more than a minute", resp.StatusCode, body)
				}
				p.beatNow()
				if resp, _ := asked(t, p, "GET", path); resp.StatusCode != http.StatusOK {
					t.Errorf("got %d, want 200 after a heartbeat", resp.StatusCode)
				}
			})
		})
	}
}

func TestHeartbeatGoesOnUntilTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newProcess(Service{Name: "watcher"}, quiet())
		ctx, cancel := context.WithCancel(t.Context())
		go p.beatEverySecond(ctx)
		<-time.After(10*time.Minute + time.Millisecond)
		if resp, _ := asked(t, p, "GET", "/health"); resp.StatusCode != http.StatusOK {
			t.Errorf("got %d, want 200", resp.StatusCode)
		}
		cancel()
		synctest.Wait()
	})
}

func TestReadyNamesWhatIsMissing(t *testing.T) {
	away := errors.New("no route to host")
	tests := map[string]struct {
		daemon func() *Daemon
		code   int
		want   map[string]any
	}{
		"before the first Run": {
			func() *Daemon { return nil }, 503,
			map[string]any{"status": "not_ready", "nats_connection": false, "monitoring_active": false,
				"checks": map[string]any{"nats_connection": "not started yet", "monitoring_active": "not started yet"}},
		},
		"everything there": {
			func() *Daemon {
				d := &Daemon{}
				d.Check("k8s_connection", func() error { return nil })
				return d
			}, 200,
			map[string]any{"status": "ready", "k8s_connection": true, "checks": map[string]any{"k8s_connection": "ok"}},
		},
		"one thing missing": {
			func() *Daemon {
				d := &Daemon{}
				d.Check("nats_connection", func() error { return nil })
				d.Check("k8s_connection", func() error { return away })
				return d
			}, 503,
			map[string]any{"status": "not_ready", "k8s_connection": false, "nats_connection": true,
				"checks": map[string]any{"k8s_connection": "no route to host", "nats_connection": "ok"}},
		},
		"a check that replaces another": {
			func() *Daemon {
				d := &Daemon{}
				d.Check("monitoring_active", func() error { return away })
				d.Check("monitoring_active", func() error { return nil })
				return d
			}, 200,
			map[string]any{"status": "ready", "monitoring_active": true, "checks": map[string]any{"monitoring_active": "ok"}},
		},
	}
	for name, tt := range tests {
		for _, path := range []string{"/ready", "/readyz"} {
			t.Run(name+" "+path, func(t *testing.T) {
				p := newProcess(Service{Name: "watcher"}, quiet())
				if d := tt.daemon(); d != nil {
					p.current.Store(d)
				}
				resp, body := asked(t, p, "GET", path)
				if diff := cmp.Diff(fields(t, body), tt.want); diff != "" || resp.StatusCode != tt.code {
					t.Errorf("got %d, want %d (-got +want)\n%s", resp.StatusCode, tt.code, diff)
				}
			})
		}
	}
}

func TestStatusHoldsTheServicesFieldsAndTheProcessesOwn(t *testing.T) {
	p := newProcess(Service{Name: "watcher"}, quiet())
	d := &Daemon{}
	d.Status(func() map[string]any { return map[string]any{"failures_detected": 7} })
	d.Status(func() map[string]any { return map[string]any{"recoveries_failed": 1, "cpu_usage": "not the service's"} })
	p.current.Store(d)
	resp, body := asked(t, p, "GET", "/status")
	got := fields(t, body)
	cpu, _ := got["cpu_usage"].(float64)
	memory, _ := got["memory_usage"].(float64)
	if cpu < 0 || cpu > float64(runtime.NumCPU())+1 || memory < 1<<20 || resp.StatusCode != http.StatusOK {
		t.Errorf("got %d %v, want a fraction of a CPU and some megabytes", resp.StatusCode, got)
	}
	delete(got, "cpu_usage")
	delete(got, "memory_usage")
	if diff := cmp.Diff(got, map[string]any{"failures_detected": 7.0, "recoveries_failed": 1.0}); diff != "" {
		t.Errorf("(-got +want)\n%s", diff)
	}
}

func TestStatusThatCannotBeWrittenIsAnErrorAndNotSilence(t *testing.T) {
	p := newProcess(Service{Name: "watcher"}, quiet())
	d := &Daemon{}
	d.Status(func() map[string]any { return map[string]any{"odd": func() {}} })
	p.current.Store(d)
	resp, body := asked(t, p, "GET", "/status")
	if resp.StatusCode != http.StatusInternalServerError || fields(t, body)["error"] == "" {
		t.Errorf("got %d %s, want 500 and why", resp.StatusCode, body)
	}
}

func TestOnlyReadingKnownPathsIsAnswered(t *testing.T) {
	tests := map[string]struct {
		method, path string
		code         int
		allow        string
	}{
		"head":                    {"HEAD", "/health", 200, ""},
		"head of metrics":         {"HEAD", "/metrics", 200, ""},
		"post":                    {"POST", "/health", 405, "GET, HEAD"},
		"delete of metrics":       {"DELETE", "/metrics", 405, "GET, HEAD"},
		"unknown":                 {"GET", "/", 404, ""},
		"unknown, with post":      {"POST", "/debug/pprof/", 404, ""},
		"known with something on": {"GET", "/health/x", 404, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			resp, body := asked(t, newProcess(Service{Name: "watcher"}, quiet()), tt.method, tt.path)
			if resp.StatusCode != tt.code || resp.Header.Get("Allow") != tt.allow {
				t.Errorf("got %d, Allow %q, want %d, %q", resp.StatusCode, resp.Header.Get("Allow"), tt.code, tt.allow)
			}
			if tt.code >= 400 && (fields(t, body)["error"] == nil || resp.Header.Get("Content-Type") != "application/json") {
				t.Errorf("got %s %s, want an error as JSON", resp.Header.Get("Content-Type"), body)
			}
		})
	}
}

func TestMetricsAreThoseOfTheProcessAndOfThePresentRun(t *testing.T) {
	p := newProcess(Service{Name: "watcher"}, quiet())
	run := func(name string) *Daemon {
		d := &Daemon{Metrics: prometheus.NewRegistry(), paused: p.paused}
		promauto.With(d.Metrics).NewCounter(prometheus.CounterOpts{Name: name, Help: "x"}).Inc()
		p.current.Store(d)
		return d
	}
	run("self_healing_first_total")
	run("self_healing_second_total").SetPaused(true)
	release, revision := Version()
	resp, text := asked(t, p, "GET", "/metrics")
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/plain") {
		t.Errorf("got Content-Type %s, want text/plain", got)
	}
	for _, want := range []string{
		"\nself_healing_second_total 1\n", "\nself_healing_paused 1\n", "\nself_healing_config_last_reload_successful 1\n",
		fmt.Sprintf("\nself_healing_build_info{goversion=%q,revision=%q,version=%q} 1\n", runtime.Version(), revision, release),
		"\ngo_goroutines ", "\nprocess_resident_memory_bytes ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(text, "first") {
		t.Error("a metric of an earlier Run is still there")
	}
	run("self_healing_third_total").SetPaused(false)
	if _, text := asked(t, p, "GET", "/metrics"); !strings.Contains(text, "\nself_healing_paused 0\n") {
		t.Error("want self_healing_paused 0 after a resume")
	}
	resp, text = asked(t, p, "GET", "/metrics", "Accept", "application/openmetrics-text; version=1.0.0")
	if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, "application/openmetrics-text") || !strings.HasSuffix(text, "# EOF\n") {
		t.Errorf("got Content-Type %s, want OpenMetrics up to its end", got)
	}
}

func TestDaemonOfATestNeedsNoProcess(t *testing.T) {
	d := &Daemon{Name: "watcher"}
	d.SetPaused(true)
	if got := d.Ready(); len(got) != 0 {
		t.Errorf("got %v, want no checks", got)
	}
	if got := d.UserAgent(); !strings.HasPrefix(got, "selfheal-watcher/v") {
		t.Errorf("got %s, want selfheal-watcher/v…", got)
	}
}

// logged is each record that was written, without its time.
func logged(t *testing.T, out *bytes.Buffer) []map[string]any {
	t.Helper()
	var all []map[string]any
	for d := json.NewDecoder(out); ; {
		record := map[string]any{}
		if err := d.Decode(&record); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		delete(record, "time")
		all = append(all, record)
	}
}

func TestLogRecordsCarryTheIdsOfTheirContext(t *testing.T) {
	span := trace.ContextWithSpanContext(t.Context(), trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab}, SpanID: trace.SpanID{1}}))
	both := WithIDs(span, "i-1", "d-1")
	tests := map[string]struct {
		log  func(*slog.Logger)
		want map[string]any
	}{
		"no ids":   {func(l *slog.Logger) { l.Info("x") }, map[string]any{}},
		"all ids":  {func(l *slog.Logger) { l.InfoContext(both, "x", "a", 1) }, map[string]any{"a": 1.0, "incident_id": "i-1", "decision_id": "d-1", "trace_id": "ab000000000000000000000000000000"}},
		"incident": {func(l *slog.Logger) { l.InfoContext(WithIDs(t.Context(), "i-1", ""), "x") }, map[string]any{"incident_id": "i-1"}},
		"the decision comes later": {func(l *slog.Logger) { l.InfoContext(WithIDs(WithIDs(t.Context(), "i-1", ""), "", "d-2"), "x") },
			map[string]any{"incident_id": "i-1", "decision_id": "d-2"}},
		"beside attributes": {func(l *slog.Logger) { l.With("b", 2).InfoContext(WithIDs(t.Context(), "i-1", ""), "x") }, map[string]any{"b": 2.0, "incident_id": "i-1"}},
		"outside of groups": {func(l *slog.Logger) {
			l.With("b", 2).WithGroup("g").With("c", 3).WithGroup("h").InfoContext(WithIDs(t.Context(), "i-1", ""), "x", "a", 1)
		}, map[string]any{"b": 2.0, "incident_id": "i-1", "g": map[string]any{"c": 3.0, "h": map[string]any{"a": 1.0}}}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			tt.log(slog.New(LogHandler(slog.NewJSONHandler(&out, nil))))
			tt.want["level"], tt.want["msg"] = "INFO", "x"
			if diff := cmp.Diff(logged(t, &out), []map[string]any{tt.want}); diff != "" {
				t.Errorf("(-got +want)\n%s", diff)
			}
		})
	}
}

func TestMessageIsLoggedTenTimesASecondAndTheRestIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(LogHandler(slog.NewJSONHandler(&out, nil)))
		for range 25 {
			log.Info("often")
			log.With("derived", true).WithGroup("g").Info("often") // counted together
		}
		log.Info("seldom")
		<-time.After(time.Second)
		log.Info("often")
		log.Info("often")
		var often, seldom int
		var suppressed []any
		for _, r := range logged(t, &out) {
			if r["msg"] == "seldom" {
				seldom++
				continue
			}
			often++
			if r["suppressed"] != nil {
				suppressed = append(suppressed, r["suppressed"])
			}
		}
		if diff := cmp.Diff([]any{often, seldom, suppressed}, []any{12, 1, []any{40.0}}); diff != "" {
			t.Errorf("(-got +want)\n%s", diff)
		}
	})
}

func TestLimiterHoldsAFixedNumberOfMessages(t *testing.T) {
	l := &limiter{windows: map[string]window{}}
	for i := range 10 * maxMessages {
		l.allow(slog.NewRecord(time.Now(), slog.LevelInfo, fmt.Sprint(i), 0))
	}
	if got := len(l.windows); got > maxMessages {
		t.Errorf("got %d, want at most %d", got, maxMessages)
	}
}

func TestHandlerIsNotWrappedTwice(t *testing.T) {
	h := LogHandler(slog.DiscardHandler)
	if LogHandler(h) != h {
		t.Error("got another handler, want the same")
	}
}

func TestVersionLineNamesVersionCommitAndGo(t *testing.T) {
	if got, want := versionLine("watcher"), regexp.MustCompile(`^watcher v\S+ \(\w{7,12}, go1\.\d+\S*\)$`); !want.MatchString(got) {
		t.Errorf("got %q, want it to match %s", got, want)
	}
}

func TestHelpListsEverythingThereIsToKnow(t *testing.T) {
	got := help(Service{Name: "watcher", Summary: "Watches a cluster and reports what fails."})
	file := filepath.Join("testdata", "help.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(got, string(want)); diff != "" {
		t.Errorf("%s, to be written by go test -update: (-got +want)\n%s", file, diff)
	}
}

// settings are those of a service whose NATS is at url, without HTTP.
func settings(t *testing.T, url string) config.Settings {
	t.Helper()
	s, _, err := config.Load(config.Loader{Args: []string{"--nats-url", url, "--http-addr", ""}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSeveralServicesRunInOneProcess(t *testing.T) {
	nats := bustest.Listen(t)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	running := make(chan *Daemon)
	names := []string{"watcher", "analyzer", "actuator", "notifier"}
	for _, name := range names {
		go func() {
			ended <- Run(ctx, Service{Name: name, Run: func(ctx context.Context, d *Daemon) error {
				promauto.With(d.Metrics).NewCounter(prometheus.CounterOpts{Name: "self_healing_same_total", Help: "x"})
				running <- d
				<-ctx.Done()
				return ctx.Err()
			}}, settings(t, nats.URL()), quiet())
		}()
	}
	for range names {
		d := <-running
		awaitReady(t, d)
	}
	cancel()
	for range names {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func awaitReady(t *testing.T, d *Daemon) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		if errors.Join(d.Ready()["nats_connection"], d.Ready()["monitoring_active"]) == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("%s is not ready after 30 s: %v", d.Name, d.Ready())
		}
	}
}

func TestRunThatDoesNotEndIsNamed(t *testing.T) {
	running, release := make(chan struct{}), make(chan struct{})
	s := Service{Name: "watcher", Run: func(context.Context, *Daemon) error {
		close(running)
		<-release
		return nil
	}}
	p := newProcess(s, quiet())
	p.grace = 50 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- p.run(ctx, settings(t, "nats://127.0.0.1:1"), nil) }()
	<-running
	cancel()
	err := <-ended
	if err == nil || err.Error() != "still running after 50ms: the service watcher" || exitCode(err) != exitError {
		t.Errorf("got %v, want an error that names the service", err)
	}
	close(release) // for goleak: a process would be gone by now
}

func TestErrorOfARunIsReturned(t *testing.T) {
	want := errors.New("the disk is on fire")
	s := Service{Name: "watcher", Run: func(context.Context, *Daemon) error { return want }}
	if err := Run(t.Context(), s, settings(t, "nats://127.0.0.1:1"), quiet()); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

// traced runs a service that makes one span, and returns how long that took.
func traced(t *testing.T) time.Duration {
	t.Helper()
	begin := time.Now()
	s := Service{Name: "watcher", Run: func(ctx context.Context, d *Daemon) error {
		_, span := otel.Tracer("test").Start(ctx, "look")
		span.End()
		return nil
	}}
	if err := Run(t.Context(), s, settings(t, "nats://127.0.0.1:1"), quiet()); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

func TestSpansAreSentUnderTheServicesName(t *testing.T) {
	got := make(chan *collector.ExportTraceServiceRequest, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, _ := io.ReadAll(r.Body)
		request := &collector.ExportTraceServiceRequest{}
		_ = proto.Unmarshal(data, request) // what is missing then, the test sees
		select {
		case got <- request:
		default:
		}
	}))
	defer server.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	traced(t)
	spans := (<-got).GetResourceSpans()
	text := fmt.Sprint(spans)
	if len(spans) == 0 || !strings.Contains(text, "self-healing-watcher") || !strings.Contains(text, `"look"`) {
		t.Errorf("got %s, want the span look of self-healing-watcher", text)
	}
}

func TestCollectorThatFailsDoesNotHurt(t *testing.T) {
	hang := make(chan struct{})
	broken := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer broken.Close()
	defer close(hang)
	for name, endpoint := range map[string]string{"away": "http://127.0.0.1:1", "hanging": broken.URL} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", endpoint)
			if took := traced(t); took > 10*time.Second {
				t.Errorf("took %s, want the last traces to be given up soon", took)
			}
		})
	}
}

func TestDaemonStaysFreeOfTheKubernetesClient(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.Lines(string(out)) {
		if strings.HasPrefix(name, "k8s.io/") {
			t.Errorf("%s is imported; the notifier, which never talks to the API server, must stay small", strings.TrimSpace(name))
		}
	}
}
