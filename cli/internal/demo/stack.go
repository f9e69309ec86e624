package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/cli/internal/embed"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube"
)

// ClusterName is the demo's cluster, on the bus and for devcluster.
const ClusterName = "demo"

// DefaultDir is where logs and data go unless somebody says otherwise, below
// the working directory.
const DefaultDir = ".dev/demo"

// serviceNames are the four processes, in the order of the pipeline.
var serviceNames = []string{"watcher", "analyzer", "actuator", "notifier"}

// A setting of the services that is not at its default in the demo.
type setting struct{ env, value string }

// hurry is what the demo shortens, and why nobody should in earnest: with
// these values the system believes a failure, and a success, within seconds.
var hurry = []setting{
	{"HEALTH_CHECK_INTERVAL", "2s"},
	{"NODE_FAILURE_THRESHOLD", "2"},
	{"SELFHEAL_SETTLE_TIME", "1s"},
	{"VERIFY_WINDOW", "5s"},
	{"RECOVERY_TIMEOUT", "60s"},
	{"MAX_POD_ACTIONS_NAMESPACE", "30"}, // the shop is one namespace, and all is broken within two minutes
}

// policyText is the demo's policy: everything it does not name is as built in.
const policyText = `name: demo
guards:
  backoff: {first: 2s, longest: 3s} # built in: 60 s, doubling up to 10 min
`

const policyInWords = "2 and 3 s instead of one and two minutes."

// A stack is everything that runs: a control plane, NATS, the services, and
// somebody who is told.
type stack struct {
	dirs     dirs
	children *children
	cluster  *child
	services []*child
	nats     *embed.Server
	receiver *receiver
	log      *os.File

	kubeconfig string
	kube       kubernetes.Interface
	bus        *bus.Bus
	pages      []string // base URLs of the services, as serviceNames
}

// dirs are where things lie. They are given, and absolute.
type dirs struct {
	bin     string // the binaries
	data    string // logs, NATS
	cluster string // devcluster's folder
}

func (d dirs) binary(name string) string { return filepath.Join(d.bin, name) }
func (d dirs) logs() string              { return filepath.Join(d.data, "logs") }

// check reports what has not been built.
func (d dirs) check() error {
	var missing []string
	for _, name := range append([]string{"devcluster"}, serviceNames...) {
		if _, err := os.Stat(d.binary(name)); err != nil {
			missing = append(missing, name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("%s not found in %s; `make demo` builds what the demo needs", strings.Join(missing, ", "), d.bin)
}

// newStack prepares empty folders; nothing runs yet.
func newStack(d dirs) (*stack, error) {
	for _, dir := range []string{d.logs(), filepath.Join(d.data, "nats")} {
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	log, err := os.Create(filepath.Join(d.logs(), "demo.log"))
	if err != nil {
		return nil, err
	}
	return &stack{dirs: d, children: newChildren(d.logs()), log: log}, nil
}

func (s *stack) logger(name string) *slog.Logger {
	return slog.New(slog.NewJSONHandler(s.log, nil)).With("service", name)
}

// environment is all that a child is given besides its settings: nothing of
// the user's settings must reach the services of a demo.
func environment(more ...string) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return append(env, more...)
}

// startCluster starts a control plane with nodes, and returns its version.
func (s *stack) startCluster(ctx context.Context, nodes int) (version string, err error) {
	if err := s.clearCluster(ctx); err != nil {
		return "", err
	}
	ready := make(chan struct{})
	var once sync.Once
	args := []string{"run", "--name", ClusterName, "--dir", s.dirs.cluster, "--nodes", fmt.Sprint(nodes), "--zones", "2",
		"--backoff-base", "4s", "--backoff-cap", "20s"}
	s.cluster, err = s.children.start("cluster", s.dirs.binary("devcluster"), args, environment(), func(line string) {
		if line == "ready" {
			once.Do(func() { close(ready) })
		}
	})
	if err != nil {
		return "", err
	}
	select {
	case <-ready:
	case <-s.cluster.exit:
		return "", s.cluster.failure()
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
	s.kubeconfig = filepath.Join(s.dirs.cluster, "kubeconfig")
	c, err := kube.Config(s.kubeconfig, "selfheal-demo")
	if err != nil {
		return "", err
	}
	return s.connect(c)
}

// clearCluster removes what an earlier demo left, unless somebody uses it.
func (s *stack) clearCluster(ctx context.Context) error {
	if _, err := os.Stat(s.dirs.cluster); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	status := exec.CommandContext(ctx, s.dirs.binary("devcluster"), "status", "--dir", s.dirs.cluster)
	status.Env = environment()
	if status.Run() == nil {
		return fmt.Errorf("a cluster is running in %s; stop it with `%s down --dir %s`", s.dirs.cluster, s.dirs.binary("devcluster"), s.dirs.cluster)
	}
	return os.RemoveAll(s.dirs.cluster)
}

func (s *stack) connect(c *rest.Config) (version string, err error) {
	if s.kube, err = kube.Client(c); err != nil {
		return "", err
	}
	v, err := s.kube.Discovery().ServerVersion()
	if err != nil {
		return "", err
	}
	return v.GitVersion, nil
}

// startNATS starts the server and connects to it.
func (s *stack) startNATS(ctx context.Context) (err error) {
	s.nats, err = embed.Start(ctx, embed.Options{
		Dir: filepath.Join(s.dirs.data, "nats"), MonitorPort: -1, Cluster: ClusterName, Log: s.logger("nats"),
	})
	if err != nil {
		return err
	}
	s.bus, err = bus.Connect(bus.Options{URL: s.nats.URL(), Service: "selfheal", Cluster: ClusterName, Log: s.logger("selfheal")})
	return err
}

// startServices starts the four binaries and waits until each says that it is
// ready.
func (s *stack) startServices(ctx context.Context) error {
	addresses, err := freeAddresses(ctx, len(serviceNames))
	if err != nil {
		return err
	}
	env := environment(
		heal.EnvPrefix+"NATS_URL="+s.nats.URL(),
		heal.EnvPrefix+"CLUSTER="+ClusterName,
		heal.EnvPrefix+"MODE="+string(heal.ModeAuto),
		"KUBECONFIG="+s.kubeconfig,
		"WEBHOOK_URL="+s.receiver.url+"/webhook",
		"SLACK_WEBHOOK_URL="+s.receiver.url+"/slack/monitoring",
		"SLACK_INCIDENT_WEBHOOK_URL="+s.receiver.url+"/slack/incidents",
	)
	policy := filepath.Join(s.dirs.data, "policy.yaml")
	if err := os.WriteFile(policy, []byte(policyText), 0o644); err != nil {
		return err
	}
	env = append(env, heal.EnvPrefix+"POLICY_FILE="+policy)
	for _, h := range hurry {
		env = append(env, h.env+"="+h.value)
	}
	for i, name := range serviceNames {
		own := append(env[:len(env):len(env)], heal.EnvPrefix+"HTTP_ADDR="+addresses[i])
		c, err := s.children.start(name, s.dirs.binary(name), nil, own, nil)
		if err != nil {
			return err
		}
		s.services = append(s.services, c)
		s.pages = append(s.pages, "http://"+addresses[i])
	}
	for i, c := range s.services {
		if err := ready(ctx, c, s.pages[i]+"/ready"); err != nil {
			return err
		}
	}
	return nil
}

// ready waits until the page answers 200.
func ready(ctx context.Context, c *child, page string) error {
	for {
		why := notReady(ctx, page)
		if why == "" {
			return nil
		}
		select {
		case <-c.exit:
			return c.failure()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %s: %w", c.name, why, context.Cause(ctx))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// notReady is what the page says is missing, or nothing.
func notReady(ctx context.Context, page string) string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return err.Error()
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusOK {
		return ""
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, 4096))
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(body))
}

// freeAddresses are addresses that nobody listened on a moment ago.
func freeAddresses(ctx context.Context, n int) ([]string, error) {
	var addresses []string
	for range n {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}

// How long each part may take to stop; together less than 25 s.
const (
	servicesPatience = 12 * time.Second
	clusterPatience  = 8 * time.Second
)

// stop ends what runs, in the order in which nothing misses what it needs.
func (s *stack) stop() error {
	errs := make([]error, len(s.services))
	var wg sync.WaitGroup
	for i, c := range s.services {
		wg.Go(func() { errs[i] = c.stop(servicesPatience) })
	}
	wg.Wait()
	if s.bus != nil {
		s.bus.Close()
	}
	if s.nats != nil {
		s.nats.Stop()
	}
	if s.receiver != nil {
		errs = append(errs, s.receiver.stop())
	}
	if s.cluster != nil {
		errs = append(errs, s.cluster.stop(clusterPatience))
	}
	s.children.close()
	return errors.Join(append(errs, s.log.Close())...)
}
