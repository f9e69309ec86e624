package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/selfheal/selfheal/dev/cluster/internal/cluster"
)

// settings binds a cluster's configuration to flags.
func settings(f *pflag.FlagSet, c *cluster.Config) {
	f.IntVar(&c.Nodes, "nodes", c.Nodes, "number of simulated nodes")
	f.IntVar(&c.Zones, "zones", c.Zones, "number of zones over which they are spread")
	f.StringVar(&c.NodeCPU, "node-cpu", c.NodeCPU, "CPUs of each node")
	f.StringVar(&c.NodeMemory, "node-memory", c.NodeMemory, "memory of each node")
	f.StringVar(&c.NodePods, "node-pods", c.NodePods, "most pods on each node")
	f.DurationVar(&c.Heartbeat, "heartbeat", c.Heartbeat, "time between two heartbeats of a node (default 2s, longer above 50 nodes)")
	f.DurationVar(&c.MonitorGrace, "node-monitor-grace-period", c.MonitorGrace, "silence after which a node is NotReady (default 8s, longer above 50 nodes)")
	f.IntVar(&c.NotReadyToleration, "default-not-ready-toleration-seconds", c.NotReadyToleration, "how long pods stay on a node that is NotReady")
	f.IntVar(&c.UnreachableToleration, "default-unreachable-toleration-seconds", c.UnreachableToleration, "how long pods stay on a node that is unreachable")
	f.DurationVar(&c.BackoffBase, "backoff-base", c.BackoffBase, "first delay between restarts of a crashing container")
	f.DurationVar(&c.BackoffCap, "backoff-cap", c.BackoffCap, "longest such delay")
	f.BoolVar(&c.Static, "static", c.Static, "etcd and the API server alone, for objects that 'load' writes and that stay as they are")
	f.StringArrayVar(&c.Args, "arg", c.Args, "further flag of a component, as COMPONENT=--flag=value (repeatable)")
}

// resolve returns the folder and the configuration: what flags say, else what the kept cluster had, else the default.
func resolve(at *place, f *pflag.FlagSet) (string, cluster.Config, error) {
	dir, err := at.path()
	if err != nil {
		return "", cluster.Config{}, err
	}
	c := cluster.Default()
	if kept, err := cluster.Load(dir); err == nil {
		c = kept.Config
	}
	c.Name = at.name
	over := pflag.NewFlagSet("", pflag.ContinueOnError)
	settings(over, &c)
	f.Visit(func(given *pflag.Flag) {
		target := over.Lookup(given.Name)
		if target == nil {
			return
		}
		if list, ok := given.Value.(pflag.SliceValue); ok {
			err = errors.Join(err, target.Value.(pflag.SliceValue).Replace(list.GetSlice()))
			return
		}
		err = errors.Join(err, target.Value.Set(given.Value.String()))
	})
	if err = errors.Join(err, c.Validate()); err != nil {
		return "", c, usageError{err}
	}
	return dir, c, nil
}

func newUp() *cobra.Command {
	var at place
	c := &cobra.Command{
		Use:   "up",
		Short: "Start a cluster in the background and wait until it is ready",
		Args:  exactly(),
	}
	at.flags(c.Flags())
	defaults := cluster.Default()
	settings(c.Flags(), &defaults)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, _, err := resolve(&at, cmd.Flags())
		if err != nil {
			return err
		}
		if cluster.Up(dir) {
			fmt.Printf("cluster %q is already up\nexport KUBECONFIG=%s\n", at.name, cluster.Kubeconfig(dir))
			return nil
		}
		began := time.Now()
		if err := startDetached(dir, os.Args[2:]); err != nil {
			return err
		}
		fmt.Printf("cluster %q is ready after %.1fs\nexport KUBECONFIG=%s\n", at.name, time.Since(began).Seconds(), cluster.Kubeconfig(dir))
		return nil
	}
	return c
}

// startDetached starts the supervisor in a session of its own, and waits for its one line: "ready", or what is wrong.
func startDetached(dir string, args []string) error {
	if err := os.MkdirAll(filepath.Join(dir, "logs"), 0o755); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(dir, "logs", "supervisor.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	cmd := exec.Command("/proc/self/exe", append([]string{"supervise"}, args...)...)
	cmd.Args[0] = "devcluster"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := w.Close(); err != nil {
		return err
	}
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		return fmt.Errorf("the supervisor ended before the cluster was ready; see %s", log.Name())
	}
	if line = strings.TrimSpace(line); line != "ready" {
		return errors.New(line)
	}
	return nil
}

// newSupervise is what `up` starts; file descriptor 3 takes its one line.
func newSupervise() *cobra.Command {
	c := command("supervise", "", func(ctx context.Context, dir string, cfg cluster.Config, log *slog.Logger) error {
		// Not passed on to the parts: `up` must see the end of the pipe when the supervisor is gone.
		syscall.CloseOnExec(3)
		said := os.NewFile(3, "ready")
		err := cluster.Run(ctx, dir, cfg, log, func() {
			fmt.Fprintln(said, "ready")
			_ = said.Close()
		})
		if err != nil {
			fmt.Fprintln(said, strings.ReplaceAll(err.Error(), "\n", " "))
		}
		return err
	})
	c.Hidden = true
	return c
}

func newRun() *cobra.Command {
	var remove bool
	c := command("run", "Run a cluster in the foreground until stdin is closed or a signal comes",
		func(ctx context.Context, dir string, cfg cluster.Config, log *slog.Logger) error {
			ctx, stop := context.WithCancel(ctx)
			defer stop()
			go func() {
				// The parent's end closes the pipe, however it ends.
				_, _ = io.Copy(io.Discard, os.Stdin)
				stop()
			}()
			err := cluster.Run(ctx, dir, cfg, log, func() { fmt.Println("ready") })
			// Only a folder that we have made, and that no other supervisor runs.
			if _, missing := cluster.Load(dir); remove && missing == nil && !errors.Is(err, cluster.ErrUp) {
				err = errors.Join(err, os.RemoveAll(dir))
			}
			return err
		})
	c.Long = c.Short + ".\n\nPrints one line, \"ready\", when pods can be created and scheduled. Logs go to stderr and to the folder."
	c.Flags().BoolVar(&remove, "rm", false, "delete the folder at the end")
	return c
}

// command is a subcommand that runs a cluster in this process.
func command(use, short string, run func(context.Context, string, cluster.Config, *slog.Logger) error) *cobra.Command {
	var at place
	c := &cobra.Command{Use: use, Short: short, Args: exactly()}
	at.flags(c.Flags())
	defaults := cluster.Default()
	settings(c.Flags(), &defaults)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, cfg, err := resolve(&at, cmd.Flags())
		if err != nil {
			return err
		}
		ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		return run(ctx, dir, cfg, slog.New(slog.NewJSONHandler(os.Stderr, nil)))
	}
	return c
}
