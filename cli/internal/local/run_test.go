package local

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/selfheal/selfheal/cli/internal/lock"
	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/pkg/config"
)

// kubeconfig is one for the server at that address.
func kubeconfig(t *testing.T, server string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := `{"apiVersion":"v1","kind":"Config","current-context":"there",
"clusters":[{"name":"c","cluster":{"server":"` + server + `"}}],
"contexts":[{"name":"there","context":{"cluster":"c","user":"u"}}],"users":[{"name":"u","user":{}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func options(t *testing.T, server string) Options {
	t.Helper()
	settings, _, err := config.Load(config.Loader{
		Args: []string{"--kubeconfig=" + kubeconfig(t, server)}, Defaults: map[string]string{"mode": "observe"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return Options{Settings: settings, DataDir: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// A console is what a running `up` prints.
type console struct {
	t     *testing.T
	lines *bufio.Scanner
	stop  context.CancelFunc
	ended chan error
}

func run(t *testing.T, o Options) *console {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	c := &console{t: t, lines: bufio.NewScanner(r), stop: cancel, ended: make(chan error, 1)}
	go func() {
		err := Run(ctx, o, screen.To(w))
		w.Close()
		c.ended <- err
	}()
	return c
}

// until reads up to a line that matches, and returns its submatches.
func (c *console) until(pattern string) []string {
	c.t.Helper()
	re := regexp.MustCompile(pattern)
	for c.lines.Scan() {
		if m := re.FindStringSubmatch(c.lines.Text()); m != nil {
			return m
		}
	}
	c.t.Fatalf("it never said %q", pattern)
	return nil
}

// end stops it and returns how it ended.
func (c *console) end() error {
	c.stop()
	for c.lines.Scan() {
	}
	return <-c.ended
}

// ask gets a JSON page, waiting for it to be served and to have the field.
func ask(t *testing.T, page, field string) (status int, answer map[string]any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		res, err := http.Get(page)
		if err == nil {
			err = json.NewDecoder(res.Body).Decode(&answer)
			res.Body.Close()
			if _, ok := answer[field]; ok {
				return res.StatusCode, answer
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s never had %s: %v, %v", page, field, answer, err)
		case <-tick.C:
		}
	}
}

func TestAnUnreachableServerIsSaidAndWaitedFor(t *testing.T) {
	c := run(t, options(t, "http://127.0.0.1:1"))
	c.until(`mode observe`)
	watcher := c.until(`watcher (http://127\.0\.0\.1:\d+)`)[1]
	c.until(`API server http://127\.0\.0\.1:1 cannot be used: .*refused; trying again`)

	status, answer := ask(t, watcher+"/ready", "k8s_connection")
	if status != http.StatusServiceUnavailable || answer["k8s_connection"] != false {
		t.Errorf("the watcher's /ready answers %d %v, want 503 and k8s_connection false", status, answer)
	}
	began := time.Now()
	if err := c.end(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if took := time.Since(began); took > stopWithin {
		t.Errorf("it took %s to stop", took)
	}
}

func TestAServerThatComesBackIsSaid(t *testing.T) {
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/version" {
			http.Error(w, "not today", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"major":"1","minor":"36","gitVersion":"v1.36.3"}`)
	}))
	ts.Start()
	defer ts.Close()
	c := run(t, options(t, ts.URL))
	c.until(`API server http://127\.0\.0\.1:\d+ answers: Kubernetes v1\.36\.3`)
	if err := c.end(); err != nil {
		t.Error(err)
	}
}

func TestASecondRunOnTheSameDataIsRefused(t *testing.T) {
	o := options(t, "http://127.0.0.1:1")
	first := run(t, o)
	first.until(`Ctrl-C stops it`)
	err := Run(t.Context(), o, screen.To(io.Discard))
	var inUse lock.InUseError
	if !errors.As(err, &inUse) || !strings.Contains(err.Error(), o.DataDir) {
		t.Errorf("the second run: %v, want that %s is in use", err, o.DataDir)
	}
	if err := first.end(); err != nil {
		t.Error(err)
	}
}

func TestWithoutAClusterNothingStarts(t *testing.T) {
	o := options(t, "http://127.0.0.1:1")
	o.Settings.Kubeconfig = filepath.Join(t.TempDir(), "missing")
	err := Run(t.Context(), o, screen.To(io.Discard))
	if err == nil || !strings.HasPrefix(err.Error(), "no cluster to work on: ") {
		t.Errorf("got %v", err)
	}
	if entries, _ := os.ReadDir(o.DataDir); len(entries) != 0 {
		t.Errorf("it left %v", entries)
	}
}
