package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/selfheal/selfheal/dev/cluster/internal/component"
)

// ErrUp says that another supervisor already runs the cluster in this folder.
var ErrUp = errors.New("the cluster is already up")

const (
	restartDelay = 500 * time.Millisecond
	readyWithin  = 2 * time.Minute
	staticWithin = 10 * time.Minute // an API server first reads everything that is stored
	etcdGrace    = 3 * time.Second
)

// Run keeps the cluster in dir running until ctx ends, then stops every part before it returns. It calls ready once,
// when pods can be created and scheduled.
func Run(ctx context.Context, dir string, c Config, log *slog.Logger, ready func()) error {
	s, err := prepare(dir, c)
	if err != nil {
		return err
	}
	defer s.close()
	s.log = log

	forks := newForker()
	defer forks.stop()
	s.forks = forks

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// etcd outlives the API server, so that nothing is cut off in the middle of a write.
	etcdCtx, stopEtcd := context.WithCancel(context.WithoutCancel(ctx))
	defer stopEtcd()
	var etcd sync.WaitGroup
	etcd.Go(func() { s.keep(etcdCtx, component.Etcd, etcdGrace) })
	defer etcd.Wait()
	defer stopEtcd()

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { s.keep(ctx, component.APIServer, 0); return nil })
	g.Go(func() error {
		if err := s.bootstrap(ctx, g, ready); ctx.Err() == nil {
			return err
		}
		return nil // stopped while starting
	})
	return g.Wait()
}

// supervisor holds one cluster: the folder, its lock and ports, and what runs.
type supervisor struct {
	dir   string
	log   *slog.Logger
	lock  *os.File
	ports []*reservation
	forks *forker
	flags map[string][]string

	mu    sync.Mutex
	state State // guarded by mu
}

// prepare takes the folder's lock and writes everything the parts need to start.
func prepare(dir string, c Config) (*supervisor, error) {
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o755); err != nil {
		return nil, err
	}
	lock, err := takeLock(dir)
	if err != nil {
		return nil, err
	}
	s := &supervisor{dir: dir, lock: lock}
	if err := s.write(c); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *supervisor) write(c Config) error {
	old, err := Load(s.dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	api, err := reserve(old.APIPort) // the same as before, so that kubeconfigs given out stay true
	if err != nil {
		return err
	}
	s.ports = append(s.ports, api)
	etcd, err := reserve(old.EtcdPort)
	if err != nil {
		return err
	}
	s.ports = append(s.ports, etcd)
	s.state = State{
		Config: c, Supervisor: os.Getpid(), APIPort: api.port, EtcdPort: etcd.port,
		Components: make(map[string]Process),
	}
	s.flags = s.state.flags(s.dir)
	if err := (pki{filepath.Join(s.dir, "pki")}).ensure(); err != nil {
		return err
	}
	if err := writeFiles(s.dir, c.Name, api.port); err != nil {
		return err
	}
	return s.state.save(s.dir)
}

func (s *supervisor) close() {
	for _, p := range s.ports {
		p.release()
	}
	_ = s.lock.Close() // releases the lock
}

// bootstrap starts the parts that need an API server, creates the nodes, and waits until pods can run. A static
// cluster is ready as soon as the API server is.
func (s *supervisor) bootstrap(ctx context.Context, g *errgroup.Group, ready func()) error {
	began := time.Now()
	limit := readyWithin
	if s.state.Config.Static {
		limit = staticWithin
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(s.dir, "pki", "supervisor.kubeconfig"))
	if err != nil {
		return err
	}
	config.QPS = -1
	client, err := kubernetes.NewForConfig(rest.AddUserAgent(config, "supervisor"))
	if err != nil {
		return err
	}
	if err := s.waitFor(within, "API server", serving(client)); err != nil {
		return err
	}
	for _, name := range s.state.Config.clients() {
		g.Go(func() error { s.keep(ctx, name, 0); return nil })
	}
	if !s.state.Config.Static {
		if err := createNodes(within, client, s.state.Config); err != nil {
			return err
		}
		if err := s.waitFor(within, "API server, nodes and default service account", usable(client)); err != nil {
			return err
		}
	}
	s.log.Info("ready", "took", time.Since(began).Round(time.Millisecond).String())
	ready()
	return nil
}

// waitFor asks until there is nothing left to wait for.
func (s *supervisor) waitFor(ctx context.Context, what string, check func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (see %s)", what, err, filepath.Join(s.dir, "logs"))
		case <-tick.C:
		}
	}
}

// keep runs one part, again whenever it ends, until ctx ends. Then it is killed; with a grace, asked first.
func (s *supervisor) keep(ctx context.Context, name string, grace time.Duration) {
	for restarts := 0; ctx.Err() == nil; restarts++ {
		began := time.Now()
		err := s.runOnce(ctx, name, restarts, grace)
		if ctx.Err() != nil {
			return
		}
		s.log.Warn("component ended, starting it again", "component", name, "err", err, "ran", time.Since(began).Round(time.Millisecond).String())
		select {
		case <-ctx.Done():
		case <-time.After(restartDelay):
		}
	}
}

func (s *supervisor) runOnce(ctx context.Context, name string, restarts int, grace time.Duration) error {
	out, err := os.OpenFile(filepath.Join(s.dir, "logs", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{"component", name}, s.flags[name]...)...)
	cmd.Args[0] = "devcluster"
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = out, out
	if err := s.forks.start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	s.started(name, cmd.Process.Pid, restarts)

	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	if grace > 0 {
		_ = cmd.Process.Signal(syscall.SIGCONT) // it may have been stopped by `devcluster signal`
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-done:
			return err
		case <-time.After(grace):
		}
	}
	_ = cmd.Process.Kill()
	return <-done
}

func (s *supervisor) started(name string, pid, restarts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Components[name] = Process{PID: pid, StartedAt: time.Now().UTC(), Restarts: restarts}
	// Under the lock although it is I/O: two parts that start together must not overwrite each other's entry.
	if err := s.state.save(s.dir); err != nil {
		s.log.Error("write state", "err", err)
	}
}

// forker starts every child from one thread that lives as long as the supervisor: the kernel sends a child's
// parent-death signal when the *thread* that forked it ends, and Go ends idle threads as it likes.
type forker struct {
	requests chan func()
	done     chan struct{}
}

func newForker() *forker {
	f := &forker{requests: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(f.done)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine, after all children
		for fork := range f.requests {
			fork()
		}
	}()
	return f
}

func (f *forker) start(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // Ctrl-C in a terminal is for the supervisor, which stops the parts in order
	}
	err := make(chan error, 1)
	f.requests <- func() { err <- cmd.Start() }
	return <-err
}

func (f *forker) stop() {
	close(f.requests)
	<-f.done
}

func lockPath(dir string) string { return filepath.Join(dir, "lock") }

// takeLock marks dir as run by this process. The kernel takes the mark away when the process ends, so it is never stale.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(lockPath(dir), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, ErrUp)
	}
	return f, nil
}

// Up reports whether a supervisor runs the cluster in dir.
func Up(dir string) bool {
	if !exists(lockPath(dir)) {
		return false
	}
	f, err := takeLock(dir)
	if err != nil {
		return errors.Is(err, ErrUp)
	}
	_ = f.Close()
	return false
}

// Alive reports whether a process of the state is still the supervisor's child: its pid may have gone to another.
func Alive(s State, p Process) bool {
	if p.PID == 0 {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
	if err != nil {
		return false
	}
	// "PID (NAME) STATE PPID …", where NAME may contain anything.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	return len(fields) > 1 && fields[0] != "Z" && fields[1] == strconv.Itoa(s.Supervisor)
}
