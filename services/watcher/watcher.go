// Package watcher sees what is failing in a cluster and says so on the bus: a
// failure once it has lasted, again for as long as it lasts, and its end. It
// only ever reads from the cluster. Any number of watchers may run side by
// side, without a leader: they give the same failure the same id.
package watcher

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/pkg/kube/reach"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
	"github.com/selfheal/selfheal/services/watcher/internal/observe"
	"github.com/selfheal/selfheal/services/watcher/internal/own"
	"github.com/selfheal/selfheal/services/watcher/internal/usage"
	"github.com/selfheal/selfheal/services/watcher/internal/watch"
)

// Name is the service's name.
const Name = "watcher"

// Config is what an operator can choose. All are required but the last three.
type Config struct {
	HealthCheckInterval  time.Duration // a lasting failure is announced again after this, then after twice as long each time …
	RecoveryTimeout      time.Duration // … up to this
	PodCheckInterval     time.Duration // a crash loop must last two of these; a suspect pod is judged again this often
	PodRestartThreshold  int           // restarts within ten minutes that need no such wait (3 are always enough)
	NodeCheckInterval    time.Duration // a suspect node is judged again this often
	NodeFailureThreshold int           // for this many of which it must not have been ready
	UsageThreshold       int           // per cent of a node's CPU or memory, or of a container's memory limit, that are too much
	Namespaces           []string      // to be watched, with rights in these alone; none means all of the cluster
	DetectorsFile        string        // detectors of the operator's own; may be empty
	VolumeStats          bool          // ask the kubelets how full volumes are
	SettleTime           time.Duration // after a cold start, look for so long without acting; default 30 s
}

func (c Config) validate() error {
	for _, d := range []struct {
		field string
		value time.Duration
	}{
		{"health_check_interval", c.HealthCheckInterval},
		{"recovery_timeout", c.RecoveryTimeout},
		{"pod_check_interval", c.PodCheckInterval},
		{"node_check_interval", c.NodeCheckInterval},
	} {
		if d.value <= 0 {
			return fmt.Errorf("%s: %s is not a positive duration", d.field, d.value)
		}
	}
	if c.PodRestartThreshold < 1 {
		return fmt.Errorf("pod_restart_threshold: %d is less than 1", c.PodRestartThreshold)
	}
	if c.NodeFailureThreshold < 1 {
		return fmt.Errorf("node_failure_threshold: %d is less than 1", c.NodeFailureThreshold)
	}
	return nil
}

// Deps are what the watcher works with. Bus and Kube are required.
type Deps struct {
	Bus     *bus.Bus
	Kube    *rest.Config          // how to reach the API server
	Clock   *Clock                // has read the answers that Kube gave; default: nobody has
	Log     *slog.Logger          // default: discard
	Metrics prometheus.Registerer // default: none are kept
	// Check adds a field to /ready, Status fields to /status. Default: neither.
	Check  func(field string, check func() error)
	Status func(fields func() map[string]any)
}

// A Clock compares our clock with the API server's.
type Clock = watch.Clock

// Run watches until ctx is done.
func Run(ctx context.Context, cfg Config, deps Deps) error {
	if err := cfg.validate(); err != nil {
		return config.Invalid(err)
	}
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	troubles := &own.Tally{Tell: func(detector string, err error) {
		deps.Log.Warn("a detector of your own cannot judge an object; /status counts further ones", "detector", detector, "err", err)
	}}
	var ownKinds []own.Kind
	if cfg.DetectorsFile != "" {
		var err error
		if ownKinds, err = own.Load(cfg.DetectorsFile, watch.Watched(), troubles.Note); err != nil {
			return config.Invalid(err)
		}
	}
	w, err := watch.New(watch.Config{
		Thresholds: detect.Thresholds{
			PodCheckInterval:     cfg.PodCheckInterval,
			PodRestartThreshold:  cfg.PodRestartThreshold,
			NodeCheckInterval:    cfg.NodeCheckInterval,
			NodeFailureThreshold: cfg.NodeFailureThreshold,
		},
		Schedule:   episode.Schedule{First: cfg.HealthCheckInterval, Limit: cfg.RecoveryTimeout},
		Recheck:    min(cfg.PodCheckInterval, cfg.NodeCheckInterval),
		Namespaces: cfg.Namespaces,
		Own:        ownKinds,
	}, deps.Kube, deps.Bus, deps.Log, deps.Metrics)
	if err != nil {
		return err
	}
	eyes := observer(cfg, deps, w)
	if deps.Check != nil {
		deps.Check("k8s_connection", w.Connected)
		deps.Check("monitoring_active", w.Active)
	}
	if deps.Status != nil {
		deps.Status(func() map[string]any {
			return map[string]any{"failures_detected": w.Detected(), "observer": eyes.State(), "detector_errors": troubles.Counts(), "unseen": w.Unseen()}
		})
	}
	var looking sync.WaitGroup
	defer looking.Wait()
	looking.Go(func() { eyes.Run(ctx) })
	w.SpeakAfter(eyes.Begun())
	if cfg.UsageThreshold > 0 && len(cfg.Namespaces) == 0 {
		used := w.Usage(usage.Config{Threshold: cfg.UsageThreshold, Volumes: cfg.VolumeStats})
		looking.Go(func() { used.Run(ctx) })
	}
	return w.Run(ctx)
}

// observer is w's view of itself.
func observer(cfg Config, deps Deps, w *watch.Watcher) *observe.Observer {
	o := observe.Config{
		Bus: deps.Bus, Log: deps.Log, Settle: cfg.SettleTime,
		Kinds: w.Kinds, Nodes: w.Nodes, Again: w.Refresh,
	}
	ahead := func() (time.Duration, bool) { return 0, false }
	if deps.Clock != nil {
		ahead = deps.Clock.Ahead
	}
	o.Skew = ahead
	o.Leases = func(ctx context.Context) (all, stale int, err error) {
		skew, _ := ahead()
		return w.Leases(ctx, skew)
	}
	return observe.New(o)
}

// Rules is what the watcher must be allowed to do in the cluster.
func Rules() []rbacv1.PolicyRule { return watch.Rules() }

// VolumeRules is what it must be allowed to do besides, with VolumeStats.
func VolumeRules() []rbacv1.PolicyRule { return watch.VolumeRules() }

// NamespaceRules is what it must be allowed to do in each of the namespaces,
// if these alone are watched, and nothing else.
func NamespaceRules() []rbacv1.PolicyRule { return watch.NamespaceRules() }

// Service is the watcher as a process, and as a part of one.
func Service() daemon.Service {
	return daemon.Service{
		Name:    Name,
		LogTo:   reach.LogTo,
		Summary: "Sees what is failing in a cluster and says so on the bus. It only ever reads.",
		Run: func(ctx context.Context, d *daemon.Daemon) error {
			rest, err := reach.Config(d.Settings.Kubeconfig, d.UserAgent())
			if err != nil {
				return config.Invalid(err)
			}
			clock := new(Clock)
			rest.Wrap(clock.Wrap)
			return Run(ctx, Config{
				HealthCheckInterval:  d.Settings.HealthCheckInterval,
				RecoveryTimeout:      d.Settings.RecoveryTimeout,
				PodCheckInterval:     d.Settings.PodCheckInterval,
				PodRestartThreshold:  d.Settings.PodRestartThreshold,
				NodeCheckInterval:    d.Settings.NodeCheckInterval,
				NodeFailureThreshold: d.Settings.NodeFailureThreshold,
				UsageThreshold:       d.Settings.UsageThreshold,
				Namespaces:           d.Settings.Namespaces,
				DetectorsFile:        d.Settings.DetectorsFile,
				VolumeStats:          d.Settings.VolumeStats,
				SettleTime:           d.Settings.SettleTime,
			}, Deps{Bus: d.Bus, Kube: rest, Clock: clock, Log: d.Log, Metrics: d.Metrics, Check: d.Check, Status: d.Status})
		},
	}
}
