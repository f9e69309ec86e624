// Package actuator carries out decisions. It is the only part of the pipeline
// that changes a cluster.
//
// Each decision ends in exactly one result. Before anything is changed the
// live cluster is asked whether it is still the same object, still broken, and
// whether anybody forbids to touch it; each change is tried with dryRun=All
// first, names its object by UID, and is made once; and afterwards it is
// looked whether it helped. Any number of actuators may run side by side.
//
// A person can stop all of it within two seconds, also in the middle of a
// drain: by `selfheal pause`, which every actuator obeys and remembers, and
// without NATS by a mark on the namespace that the services run in, which is
// read before each write:
//
//	kubectl annotate namespace self-healing selfheal.dev/mode=off
//
// The marks off and observe on that namespace, and a selfheal.dev/hold-until
// that is not over, stop everything in the cluster; approve makes every
// decision wait for a person. Not even a change of ours is then taken back:
// cordons that are left stay until acting is allowed again.
package actuator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube"
	"github.com/selfheal/selfheal/services/actuator/internal/action"
	"github.com/selfheal/selfheal/services/actuator/internal/actuate"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
	"github.com/selfheal/selfheal/services/actuator/internal/pace"
	"github.com/selfheal/selfheal/services/actuator/internal/webhook"
)

// Name is the service's name.
const Name = "actuator"

// Config is what an operator can choose. The zero value of a field is its default.
type Config struct {
	Mode                   heal.Mode     // observe, approve or auto: decisions are never carried out more loosely; default observe
	DryRun                 bool          // try every request, change nothing
	RecoveryTimeout        time.Duration // from the first change to giving up; default 5 min
	VerifyWindow           time.Duration // how long a recovery must hold; default 60 s, or RecoveryTimeout if that is shorter
	HealthCheckInterval    time.Duration // between looks at nodes that stayed cordoned; default 30 s
	MaxPodActionsNamespace int           // per minute; default 5
	MaxPodActionsCluster   int           // per minute; default 30
	Protected              []string      // namespaces that are never touched, beside Kubernetes' own; default ours
	Workers                int           // decisions carried out at once; default 64, or what the caps allow for
	Lease                  time.Duration // after which a silent worker's decision is taken over; default 20 s
	ApprovalTime           time.Duration // how long a person has to agree, counted from the decision; default 15 min
	ApprovalLook           time.Duration // between looks whether a person is still needed; default 30 s
	FailBack               time.Duration // how long a service's primary must have been Ready for a failover to be taken back; default 2 min
	Home                   []string      // namespaces whose marks count for all of the cluster; default ours
	Node                   string        // on which this process runs; default unknown
}

// maxAge is how old a decision may get before it is refused, whatever it says
// itself: what was true then need not be true now.
const maxAge = 5 * time.Minute

func (c Config) withDefaults() (Config, error) {
	or := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	or(&c.RecoveryTimeout, 5*time.Minute)
	or(&c.VerifyWindow, min(time.Minute, c.RecoveryTimeout))
	or(&c.HealthCheckInterval, 30*time.Second)
	or(&c.Lease, 20*time.Second)
	or(&c.ApprovalTime, 15*time.Minute)
	or(&c.ApprovalLook, 30*time.Second)
	or(&c.FailBack, 2*time.Minute)
	if c.Mode == "" {
		c.Mode = heal.ModeObserve
	}
	if c.MaxPodActionsNamespace == 0 {
		c.MaxPodActionsNamespace = 5
	}
	if c.MaxPodActionsCluster == 0 {
		c.MaxPodActionsCluster = 30
	}
	if c.Protected == nil {
		c.Protected = []string{heal.Product}
	}
	if c.Home == nil {
		c.Home = []string{heal.Product}
	}
	if c.Workers == 0 {
		// A decision holds its worker for about the verification's minute.
		c.Workers = max(64, min(2*c.MaxPodActionsCluster, 512))
	}
	var errs []error
	if !slices.Contains(heal.Modes, c.Mode) {
		errs = append(errs, fmt.Errorf("mode: %q is not known; want one of %v", heal.Clean(string(c.Mode), 32), heal.Modes))
	}
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"recovery_timeout", c.RecoveryTimeout}, {"verify_window", c.VerifyWindow},
		{"health_check_interval", c.HealthCheckInterval}, {"lease", c.Lease},
		{"approval_time", c.ApprovalTime}, {"approval_look", c.ApprovalLook}, {"fail_back", c.FailBack},
	} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s: %s is negative", d.field, d.value))
		}
	}
	if c.VerifyWindow > c.RecoveryTimeout {
		errs = append(errs, fmt.Errorf("verify_window: %s is longer than recovery_timeout, %s: nothing could ever succeed", c.VerifyWindow, c.RecoveryTimeout))
	}
	if c.MaxPodActionsNamespace < 0 || c.MaxPodActionsCluster < 0 || c.Workers < 0 {
		errs = append(errs, fmt.Errorf("max_pod_actions_namespace %d, max_pod_actions_cluster %d, workers %d: none may be negative",
			c.MaxPodActionsNamespace, c.MaxPodActionsCluster, c.Workers))
	}
	return c, errors.Join(errs...)
}

// Deps are what the actuator works with. Bus and Kube are required.
type Deps struct {
	Bus     *bus.Bus
	Kube    kubernetes.Interface  // for reads and writes; it must not repeat writes by itself
	Watch   kubernetes.Interface  // for watches; default Kube
	Log     *slog.Logger          // default: discard
	Metrics prometheus.Registerer // default: none are kept
	Paused  func(bool)            // told whether nothing may be changed, whenever that changes; default: nobody
	// Machines restarts and replaces the machines of nodes that show no other
	// provider. Default: nobody does.
	Machines *webhook.Client
	// Check adds a field to /ready, Status fields to /status. Default: neither.
	Check  func(field string, check func() error)
	Status func(fields func() map[string]any)
}

// Run carries out decisions until ctx is done, and hands back what it cannot
// finish soon. It returns early for a Config that cannot work
// (config.ErrSettings), and when the bus refuses it what it needs.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return config.Invalid(err)
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	g, ctx := errgroup.WithContext(ctx)
	a, err := actuate.New(ctx, actuate.Config{
		Instance:        instance(),
		Mode:            cfg.Mode,
		DryRun:          cfg.DryRun,
		RecoveryTimeout: cfg.RecoveryTimeout,
		VerifyWindow:    cfg.VerifyWindow,
		Lease:           cfg.Lease,
		MaxAge:          maxAge,
		CordonInterval:  cfg.HealthCheckInterval,
		ApprovalTime:    cfg.ApprovalTime,
		ApprovalLook:    cfg.ApprovalLook,
		FailBack:        cfg.FailBack,
		Limits:          guard.Limits{Namespace: cfg.MaxPodActionsNamespace, Cluster: cfg.MaxPodActionsCluster},
		Reserved:        cfg.Protected,
		Home:            cfg.Home,
		Node:            cfg.Node,
	}, actuate.Deps{Bus: deps.Bus, Kube: deps.Kube, Watch: deps.Watch, Log: deps.Log, Metrics: deps.Metrics, Paused: deps.Paused, Machines: deps.Machines})
	if err != nil {
		return err
	}
	var listening atomic.Bool
	if deps.Check != nil {
		deps.Check("monitoring_active", func() error {
			if !listening.Load() {
				return errors.New("not listening for decisions")
			}
			return nil
		})
	}
	if deps.Status != nil {
		deps.Status(func() map[string]any {
			successful, failed := a.Counts()
			trusted, unsigned := deps.Bus.TrustedKeys()
			return map[string]any{
				"recoveries_successful": successful, "recoveries_failed": failed,
				"trusted_keys": append([]string{}, trusted...), "unsigned_decisions_accepted": unsigned,
			}
		})
	}
	trusted, unsigned := deps.Bus.TrustedKeys()
	if unsigned {
		deps.Log.Warn("decisions are taken from whoever can write to their stream: trusted_keys_dir is not set")
	}
	deps.Log.Info("actuator starts", "trusted_keys", trusted, "mode", string(cfg.Mode), "dry_run", cfg.DryRun,
		"max_pod_actions_namespace", cfg.MaxPodActionsNamespace, "max_pod_actions_cluster", cfg.MaxPodActionsCluster, "protected", cfg.Protected)
	g.Go(func() error {
		listening.Store(true)
		defer listening.Store(false)
		return bus.Decisions.Consume(ctx, deps.Bus, bus.Consumer{
			Name:    Name,
			Workers: cfg.Workers,
			Timeout: cfg.RecoveryTimeout + time.Minute + max(maxAge, cfg.ApprovalTime), // it may wait for a drain, and then for the verification
			Backoff: bus.Linear(time.Second, 20*time.Second),
		}, a.Handle)
	})
	g.Go(func() error { return a.Sight.Run(ctx) })
	g.Go(func() error {
		return bus.Approvals.Consume(ctx, deps.Bus, bus.Consumer{
			Name:    Name + "-approvals",
			Workers: min(cfg.Workers, 16),
			Timeout: cfg.RecoveryTimeout + time.Minute + cfg.ApprovalTime,
			Backoff: bus.Linear(time.Second, 20*time.Second),
		}, a.Answer)
	})
	g.Go(func() error {
		return bus.Controls.Consume(ctx, deps.Bus, bus.Consumer{
			Name:    Name + "-undo",
			Workers: min(cfg.Workers, 4),
			Timeout: time.Minute,
			Backoff: bus.Linear(time.Second, 20*time.Second),
		}, a.Undo)
	})
	g.Go(func() error { return a.Brake.Keep(ctx) })
	g.Go(func() error { return a.Events.Keep(ctx) })
	if !cfg.DryRun {
		g.Go(func() error { return a.Cordons.Keep(ctx) })
		g.Go(func() error { return a.Left.Keep(ctx) })
	}
	return g.Wait()
}

// instance tells this process from every other, also from its predecessor.
func instance() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d/%d", host, os.Getpid(), time.Now().UnixNano())
}

// Rules is what the actuator must be allowed to do in the cluster.
func Rules() []rbacv1.PolicyRule {
	rules := slices.Concat(live.Needs, live.EvidenceNeeds, actuate.EventNeeds)
	for _, a := range action.Default {
		rules = append(rules, a.Needs...)
	}
	return merge(rules)
}

// Service is the actuator as a process, and as a part of one.
func Service() daemon.Service {
	return daemon.Service{
		Name:    Name,
		LogTo:   kube.LogTo,
		Summary: "Carries out decisions, each once, and looks whether that helped. Nothing else changes the cluster.",
		Run: func(ctx context.Context, d *daemon.Daemon) error {
			rest, err := kube.Config(d.Settings.Kubeconfig, d.UserAgent())
			if err != nil {
				return config.Invalid(err)
			}
			seen := newConnection(d.Log)
			rest.Wrap(seen.observe)
			rest.Wrap(pace.New(d.Log).Wrap)
			client, err := kube.Client(rest)
			if err != nil {
				return config.Invalid(err)
			}
			watches, err := kube.WatchClient(rest)
			if err != nil {
				return config.Invalid(err)
			}
			machines, err := webhook.New(d.Settings.NodeWebhookURL, d.Settings.NodeWebhookSecret, d.Settings.Cluster)
			if err != nil {
				return config.Invalid(err)
			}
			d.Check("k8s_connection", seen.check)
			g, ctx := errgroup.WithContext(ctx)
			g.Go(func() error { return seen.keep(ctx, client) })
			g.Go(func() error {
				return Run(ctx, fromSettings(d.Settings), Deps{
					Bus: d.Bus, Kube: client, Watch: watches, Log: d.Log, Metrics: d.Metrics, Check: d.Check, Status: d.Status, Paused: d.SetPaused, Machines: machines,
				})
			})
			return g.Wait()
		},
	}
}

// nodeName is the environment variable that the chart sets to the pod's
// spec.nodeName (https://kubernetes.io/docs/tasks/inject-data-application/environment-variable-expose-pod-information).
const nodeName = "NODE_NAME"

func fromSettings(s config.Settings) Config {
	return Config{
		Mode:                   heal.Mode(s.Mode),
		DryRun:                 s.DryRun,
		RecoveryTimeout:        s.RecoveryTimeout,
		VerifyWindow:           s.VerifyWindow,
		HealthCheckInterval:    s.HealthCheckInterval,
		MaxPodActionsNamespace: s.MaxPodActionsNamespace,
		MaxPodActionsCluster:   s.MaxPodActionsCluster,
		Protected:              slices.Concat(daemon.OwnNamespaces(), daemon.NATSNamespaces(s.NATSURL)),
		Home:                   daemon.OwnNamespaces(),
		Node:                   os.Getenv(nodeName),
	}
}
