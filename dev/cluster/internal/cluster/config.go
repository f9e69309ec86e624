// Package cluster keeps a Kubernetes control plane running: it prepares a folder with keys, tokens and policies,
// starts the parts, restarts the ones that die, and stops them all. Every part is a child of one supervisor
// process and dies with it, however the supervisor ends.
package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/selfheal/selfheal/dev/cluster/internal/component"
)

// Config says what a cluster is like. Default gives the usual values; the zero value is refused by Validate.
type Config struct {
	Name  string
	Nodes int
	Zones int

	NodeCPU    string // capacity of each node
	NodeMemory string
	NodePods   string

	// A node is NotReady when no heartbeat came for MonitorGrace. Above 50 nodes both grow with the number of
	// nodes, unless they are set, so that heartbeats stay below 25 a second.
	Heartbeat    time.Duration
	MonitorGrace time.Duration

	// How long a pod stays on a node that is NotReady or unreachable, in seconds.
	NotReadyToleration    int
	UnreachableToleration int

	BackoffBase time.Duration // first delay between restarts of a crashing container
	BackoffCap  time.Duration

	// Static runs etcd and the API server alone, for objects that are loaded and stay as they are (see package fleet).
	Static bool

	// Args are further flags for parts, as COMPONENT=--flag=value.
	Args []string
}

const (
	defaultHeartbeat    = 2 * time.Second
	defaultMonitorGrace = 8 * time.Second
)

// Default is a cluster of three nodes in three zones.
func Default() Config {
	return Config{
		Name: "default", Nodes: 3, Zones: 3,
		NodeCPU: "32", NodeMemory: "64Gi", NodePods: "110",
		NotReadyToleration: 300, UnreachableToleration: 300,
		BackoffBase: 10 * time.Second, BackoffCap: 300 * time.Second,
	}
}

// Validate returns what a user has to change, or nil.
func (c Config) Validate() error {
	var errs []error
	if c.Nodes < 0 {
		errs = append(errs, fmt.Errorf("--nodes is %d, want 0 or more", c.Nodes))
	}
	if c.Zones < 1 {
		errs = append(errs, fmt.Errorf("--zones is %d, want 1 or more", c.Zones))
	}
	for _, q := range []struct{ flag, value string }{
		{"node-cpu", c.NodeCPU}, {"node-memory", c.NodeMemory}, {"node-pods", c.NodePods},
	} {
		if _, err := resource.ParseQuantity(q.value); err != nil {
			errs = append(errs, fmt.Errorf("--%s is %q, want a quantity such as 32 or 64Gi", q.flag, q.value))
		}
	}
	if c.Heartbeat < 0 || c.MonitorGrace < 0 {
		errs = append(errs, errors.New("--heartbeat and --node-monitor-grace-period must not be negative"))
	}
	if c.heartbeat() >= c.monitorGrace() {
		errs = append(errs, fmt.Errorf("--heartbeat %s is not shorter than --node-monitor-grace-period %s", c.heartbeat(), c.monitorGrace()))
	}
	if c.BackoffBase <= 0 || c.BackoffCap < c.BackoffBase {
		errs = append(errs, fmt.Errorf("--backoff-base %s and --backoff-cap %s: want 0 < base <= cap", c.BackoffBase, c.BackoffCap))
	}
	if c.NotReadyToleration < 0 || c.UnreachableToleration < 0 {
		errs = append(errs, errors.New("toleration seconds must not be negative"))
	}
	for _, a := range c.Args {
		name, flag, _ := strings.Cut(a, "=")
		if !slices.Contains(component.Names(), name) || !strings.HasPrefix(flag, "--") {
			errs = append(errs, fmt.Errorf("--arg %q: want COMPONENT=--flag=value, COMPONENT one of %s", a, strings.Join(component.Names(), ", ")))
		}
	}
	return errors.Join(errs...)
}

// Parts are the parts that the cluster runs, in the order in which they start.
func (c Config) Parts() []string {
	return append([]string{component.Etcd, component.APIServer}, c.clients()...)
}

// clients are the parts that need an API server.
func (c Config) clients() []string {
	if c.Static {
		return []string{component.Heartbeat}
	}
	return []string{component.ControllerManager, component.Scheduler, component.Simulator}
}

func (c Config) heartbeat() time.Duration {
	if c.Heartbeat > 0 {
		return c.Heartbeat
	}
	return c.scaled(defaultHeartbeat)
}

func (c Config) monitorGrace() time.Duration {
	if c.MonitorGrace > 0 {
		return c.MonitorGrace
	}
	return max(c.scaled(defaultMonitorGrace), 4*c.heartbeat())
}

func (c Config) scaled(d time.Duration) time.Duration {
	return max(d, d*time.Duration(c.Nodes)/50)
}

// extra returns the further flags for one part.
func (c Config) extra(name string) []string {
	var args []string
	for _, a := range c.Args {
		if n, flag, _ := strings.Cut(a, "="); n == name {
			args = append(args, flag)
		}
	}
	return args
}

// DefaultDir is where the cluster of that name lives, seen from the working directory.
func DefaultDir(name string) string { return filepath.Join(".dev", "clusters", name) }

// Kubeconfig is the administrator's kubeconfig of the cluster in dir.
func Kubeconfig(dir string) string { return filepath.Join(dir, "kubeconfig") }

// AuditLog is the API server's audit log of the cluster in dir.
func AuditLog(dir string) string { return filepath.Join(dir, "audit.log") }

// State is what the supervisor tells other processes, in DIR/state.json.
type State struct {
	Config     Config
	Supervisor int // pid
	APIPort    int
	EtcdPort   int
	Components map[string]Process
}

// Process is one part as last started.
type Process struct {
	PID       int
	StartedAt time.Time
	Restarts  int
}

func statePath(dir string) string { return filepath.Join(dir, "state.json") }

// Load reads the state of the cluster in dir; os.ErrNotExist when there has been none.
func Load(dir string) (State, error) {
	var s State
	b, err := os.ReadFile(statePath(dir))
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("read %s: %w", statePath(dir), err)
	}
	return s, nil
}

func (s State) save(dir string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(statePath(dir), b, 0o600)
}

// writeFile replaces a file at once, so that readers never see half of it.
func writeFile(path string, b []byte, mode os.FileMode) error {
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, b, mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
