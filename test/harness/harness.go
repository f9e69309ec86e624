// Package harness runs the four real binaries as processes against a real
// NATS server and a real control plane, and lets a test kill any of them.
package harness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

// Services are the pipeline's binaries, in the order of the pipeline.
var Services = []string{"watcher", "analyzer", "actuator", "notifier"}

// Main is for TestMain: it runs the tests with one control plane for the
// package. The same binary is also the NATS server's process.
func Main(m *testing.M, o kubetest.Options) int {
	if os.Getenv(envStore) != "" {
		return serveNATS()
	}
	return kubetest.Main(m, o)
}

// MainWithoutCluster is Main for tests that bring their own control plane.
func MainWithoutCluster(m *testing.M) int {
	if os.Getenv(envStore) != "" {
		return serveNATS()
	}
	return m.Run()
}

// A Pipeline is the four services, or some of them, as processes.
type Pipeline struct {
	NATS *NATS

	names    []string
	binaries string
	env      []string
	logs     string
	services map[string]*process
}

// A process is one service, over all its lives.
type process struct {
	name string
	addr string

	mu   sync.Mutex
	cmd  *exec.Cmd // guarded by mu
	peak int64     // guarded by mu; of all lives, in KiB
}

// Start starts the pipeline with settings (environment names to values) and
// returns when every service is ready. Logs go to files that are shown when
// the test fails.
func Start(t testing.TB, c *kubetest.Cluster, settings map[string]string) *Pipeline {
	t.Helper()
	p := Prepare(t, c.Kubeconfig, settings, Services...)
	for _, name := range Services {
		p.Run(t, name)
	}
	p.WaitReady(t)
	return p
}

// Prepare is Start for the services that are named, which it leaves to Run.
// One that is to be there twice has names such as "watcher" and "watcher#2".
func Prepare(t testing.TB, kubeconfig string, settings map[string]string, names ...string) *Pipeline {
	t.Helper()
	p := &Pipeline{NATS: StartNATS(t), names: names, binaries: t.TempDir(), logs: t.TempDir(), services: map[string]*process{}}
	p.env = append(os.Environ(), "SELFHEAL_NATS_URL="+p.NATS.URL, "KUBECONFIG="+kubeconfig, "SELFHEAL_CLUSTER=test", "SELFHEAL_SETTLE_TIME=1")
	for k, v := range settings {
		p.env = append(p.env, k+"="+v)
	}
	for _, name := range names {
		// A copy, so that a service that is started again is the same even if
		// somebody builds meanwhile.
		service, _, _ := strings.Cut(name, "#")
		binary, err := os.ReadFile(filepath.Join(RepositoryRoot(t), "bin", service))
		if err != nil {
			t.Fatalf("%v: run make build", err)
		}
		if err := os.WriteFile(filepath.Join(p.binaries, name), binary, 0o700); err != nil {
			t.Fatal(err)
		}
		port, err := FreePort()
		if err != nil {
			t.Fatal(err)
		}
		p.services[name] = &process{name: name, addr: fmt.Sprintf("127.0.0.1:%d", port)}
	}
	t.Cleanup(func() {
		for _, name := range names {
			p.Kill(name)
		}
		if t.Failed() {
			p.showLogs(t)
		}
	})
	return p
}

// Run starts a service that is not running.
func (p *Pipeline) Run(t testing.TB, name string) {
	t.Helper()
	s := p.services[name]
	log, err := os.OpenFile(filepath.Join(p.logs, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the child has its own
	cmd := exec.Command(filepath.Join(p.binaries, name))
	cmd.Env = append(p.env, "SELFHEAL_HTTP_ADDR="+s.addr)
	cmd.Stdout, cmd.Stderr = log, log
	if err := StartChild(cmd); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	s.mu.Lock()
	s.cmd = cmd
	s.mu.Unlock()
}

// Kill ends a service as kill -9 does.
func (p *Pipeline) Kill(name string) { p.end(name, syscall.SIGKILL) }

// Stop asks a service to end, as Kubernetes does, and returns its exit code.
func (p *Pipeline) Stop(name string) int { return p.end(name, syscall.SIGTERM) }

func (p *Pipeline) end(name string, sig syscall.Signal) int {
	s := p.services[name]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	s.notePeak()
	_ = s.cmd.Process.Signal(sig)
	_ = s.cmd.Wait() // the exit code says it
	code := s.cmd.ProcessState.ExitCode()
	s.cmd = nil
	return code
}

// PID is the process of a service's current life, or 0.
func (p *Pipeline) PID(name string) int {
	s := p.services[name]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return 0
	}
	return s.cmd.Process.Pid
}

// Addr is where a service answers HTTP.
func (p *Pipeline) Addr(name string) string { return p.services[name].addr }

// PeakRSS is the most memory that any life of a service held so far, in bytes.
func (p *Pipeline) PeakRSS(name string) int64 {
	s := p.services[name]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notePeak()
	return s.peak * 1024
}

// notePeak reads the high-water mark of the current life; the caller holds mu.
func (s *process) notePeak() {
	if s.cmd == nil {
		return
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		return // it is gone already
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			s.peak = max(s.peak, kib)
		}
	}
}

// WaitReady waits until /ready of every service says so.
func (p *Pipeline) WaitReady(t testing.TB) {
	t.Helper()
	for _, name := range p.names {
		WaitFor(t, 60*time.Second, name+" to be ready", func() error {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+p.Addr(name)+"/ready", nil)
			if err != nil {
				return err
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				return errors.New(resp.Status)
			}
			return nil
		})
	}
}

// Bus returns a connection of the test's own to the pipeline's streams.
func (p *Pipeline) Bus(t testing.TB) *bus.Bus {
	t.Helper()
	b, err := bus.Connect(bus.Options{URL: p.NATS.URL, Service: "test", Cluster: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// showLogs copies the end of each service's log into the test's output.
func (p *Pipeline) showLogs(t testing.TB) {
	const tail = 64 << 10
	for _, name := range p.names {
		log, err := os.ReadFile(filepath.Join(p.logs, name+".log"))
		if err != nil {
			t.Logf("log of %s: %v", name, err)
			continue
		}
		t.Logf("end of %s's log:\n%s", name, log[max(0, len(log)-tail):])
	}
}

// WaitFor asks ok again and again, a little less often each time, until it
// returns nil, and fails the test with the last error after limit.
func WaitFor(t testing.TB, limit time.Duration, what string, ok func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	pause := 10 * time.Millisecond
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("waited %s for %s: %v", limit, what, err)
		case <-time.After(pause):
		}
		pause = min(2*pause, 250*time.Millisecond)
	}
}

// StartChild starts cmd so that it dies with this process, whatever ends it.
// The kernel ties the parent-death signal to the thread that forks, so that
// thread must live on: it is locked and never given back.
func StartChild(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	forks := forker()
	done := make(chan error)
	forks <- func() { done <- cmd.Start() }
	return <-done
}

// forker is the one thread that starts children.
var forker = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// RepositoryRoot is the folder with go.work, at the working directory or above it.
func RepositoryRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("no go.work above the working directory")
		}
		dir = parent
	}
}
