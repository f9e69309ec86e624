// Package local runs the four services and a NATS server inside this process,
// against a cluster of the user's, and shows what they do. Nothing listens on
// anything but the loopback interface, and a data directory belongs to one
// such process at a time.
package local

import (
	"context"

	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/selfheal/selfheal/cli/internal/embed"
	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/cli/internal/timeline"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/daemon"
	"github.com/selfheal/selfheal/pkg/kube"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/services/analyzer"
	"github.com/selfheal/selfheal/services/notifier"
	"github.com/selfheal/selfheal/services/watcher"
)

// Options say what to run, and where. All but the ports and NATSSync are
// required.
type Options struct {
	Settings        config.Settings
	DataDir         string
	HTTPPort        int // first of four ports; 0 takes free ones
	NATSPort        int
	NATSMonitorPort int
	NATSSync        time.Duration
	Log             *slog.Logger
	LogFile         string // where Log goes, to tell the user
}

// stopWithin is how long an orderly end may take.
const stopWithin = 25 * time.Second

// services is what runs, in the order of the pipeline.
func services() []daemon.Service {
	return []daemon.Service{watcher.Service(), analyzer.Service(), actuator.Service(), notifier.Service()}
}

// Run runs everything until ctx is done, and returns once all has stopped.
func Run(ctx context.Context, o Options, scr *screen.Screen) error {
	at, err := whichCluster(o.Settings.Kubeconfig)
	if err != nil {
		return err
	}
	nats, err := embed.Start(ctx, embed.Options{
		Dir: filepath.Join(o.DataDir, "nats"), Port: o.NATSPort, MonitorPort: o.NATSMonitorPort, Sync: o.NATSSync,
		Cluster: o.Settings.Cluster, Log: o.Log.With("service", "nats"),
	})
	if err != nil {
		return err
	}
	defer nats.Stop()
	o.Settings.NATSURL, o.Settings.NATSCreds, o.Settings.NATSNKey = nats.URL(), "", ""

	addresses, moved, err := listenAddresses(ctx, o.HTTPPort, len(services()))
	if err != nil {
		return err
	}
	scr.Println(banner(scr.Paint(), scr.Width(), about{
		settings: o.Settings, where: at, dataDir: o.DataDir, log: o.LogFile,
		nats: nats.URL(), monitor: nats.MonitorURL(), addresses: addresses, moved: moved,
	}))

	b, err := bus.Connect(bus.Options{URL: nats.URL(), Service: "selfheal", Cluster: o.Settings.Cluster, Log: o.Log.With("service", "selfheal")})
	if err != nil {
		return err
	}
	defer b.Close()
	stopShowing := show(ctx, b, at, scr, o.Log)
	defer stopShowing()

	err = runServices(ctx, o.Settings, addresses, o.Log)
	if err == nil {
		scr.Println("stopped; what is known stays in " + o.DataDir)
	}
	return err
}

// show prints the timeline and what becomes of the API server. What it returns
// ends both, after the services, whose last messages are worth showing too.
func show(ctx context.Context, b *bus.Bus, at where, scr *screen.Screen, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var g errgroup.Group
	messages := make(chan bus.Raw)
	began := time.Now()
	live := timeline.NewLive(scr, time.Time{})
	scr.Println(live.Header())
	g.Go(func() error {
		live.Run(ctx, messages)
		return nil
	})
	g.Go(func() error {
		err := b.Tail(ctx, began, func(raw bus.Raw) error {
			select {
			case messages <- raw:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		if err != nil && ctx.Err() == nil {
			log.Error("the timeline has ended", "err", err)
			scr.Println("the timeline has ended: " + err.Error() + "; the services go on")
		}
		return nil
	})
	g.Go(func() error {
		watchServer(ctx, at.config, scr, time.NewTicker(serverInterval))
		return nil
	})
	return func() {
		cancel()
		_ = g.Wait() // none of them returns an error
	}
}

// runServices runs all services until ctx is done or one of them fails, and
// gives them stopWithin to end.
func runServices(ctx context.Context, settings config.Settings, addresses []string, log *slog.Logger) error {
	g, running := errgroup.WithContext(ctx)
	for i, s := range services() {
		own := settings
		own.HTTPAddr = addresses[i]
		g.Go(func() error {
			if err := daemon.Run(running, s, own, log); err != nil {
				return fmt.Errorf("%s: %w", s.Name, err)
			}
			if ctx.Err() == nil {
				return fmt.Errorf("%s ended by itself", s.Name)
			}
			return nil
		})
	}
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	select {
	case err := <-ended:
		return err
	case <-running.Done():
	}
	select {
	case err := <-ended:
		return err
	case <-time.After(stopWithin):
		return fmt.Errorf("the services did not stop within %s", stopWithin)
	}
}

// where is which cluster, as its owner knows it.
type where struct {
	config  *rest.Config
	context string // of the kubeconfig; empty inside a cluster
}

func whichCluster(kubeconfig string) (where, error) {
	c, err := kube.Config(kubeconfig, "selfheal-up")
	if err != nil {
		return where{}, fmt.Errorf("no cluster to work on: %w", err)
	}
	c.Timeout = serverTimeout
	w := where{config: c}
	if name, server := currentContext(kubeconfig); server == c.Host {
		w.context = name
	}
	return w, nil
}

// currentContext is the context that kubectl would use, and its server; both
// are empty if there is none.
func currentContext(kubeconfig string) (name, server string) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	raw, err := rules.Load()
	if err != nil {
		return "", ""
	}
	k, ok := raw.Contexts[raw.CurrentContext]
	if !ok || raw.Clusters[k.Cluster] == nil {
		return "", ""
	}
	return raw.CurrentContext, raw.Clusters[k.Cluster].Server
}

// Config says how to reach the API server of a context of the kubeconfig, or of
// its current one, as the services find it, if context is empty.
func Config(kubeconfig, context, userAgent string) (*rest.Config, error) {
	if context == "" {
		return kube.Config(kubeconfig, userAgent)
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	c, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: context}).ClientConfig()
	if err != nil {
		return nil, config.Invalid(fmt.Errorf("context %q: %w", context, err))
	}
	c.UserAgent = userAgent
	return c, nil
}

// DirName is a folder's name for what is known of the cluster of a context of
// the kubeconfig, or of its current one if context is empty:
// what was seen on one cluster must not be looked for on another.
func DirName(kubeconfig, context string) string {
	name := context
	if name == "" {
		name, _ = currentContext(kubeconfig)
	}
	name = strings.Trim(foreign.ReplaceAllString(name, "-"), "-.")
	if name == "" {
		return "default"
	}
	return name
}

// foreign is what does not belong into the name of a folder.
var foreign = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// maxLog is when the log of an earlier run is put aside instead of continued.
const maxLog = 32 << 20

// OpenLog opens the log in a data directory.
func OpenLog(dataDir string, debug bool) (*slog.Logger, *os.File, error) {
	dir := filepath.Join(dataDir, "logs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	path := filepath.Join(dir, "selfheal.log")
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, nil, fmt.Errorf("log: %w", err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("log: %w", err)
	}
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewJSONHandler(f, &slog.HandlerOptions{Level: level})), f, nil
}
