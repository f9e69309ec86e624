package command

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/embed"
	"github.com/selfheal/selfheal/cli/internal/local"
	"github.com/selfheal/selfheal/cli/internal/lock"
	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube"
)

// notOfUp are the settings that up decides itself: it brings its own NATS, and
// four services in one process cannot share one address.
var notOfUp = []string{"nats_url", "nats_creds", "nats_nkey", "http_addr"}

func upCommand() *cobra.Command {
	o := local.Options{HTTPPort: 8081}
	var plain bool
	var sync string
	c := &cobra.Command{
		Use:   "up",
		Short: "Run everything in this process against the current cluster",
		Long: `up runs the four services and a NATS server in this process, against the cluster
of your kubeconfig, and shows live what they see and decide.

In mode observe, the default here, it decides and says, and changes nothing.
With --mode approve a person agrees to each change first; with --mode auto it acts.

The settings below are also read from the environment, as by the services.
Ctrl-C stops it; what it knows is kept in the data directory for the next time.`,
		Example: `  selfheal up                 # watches the cluster that kubectl talks to, until Ctrl-C
  selfheal up --mode auto     # heals it, until Ctrl-C
  selfheal up --kubeconfig staging.kubeconfig --cluster staging   # until Ctrl-C`,
		Args: noArgs,
	}
	f := c.Flags()
	f.StringVar(&o.DataDir, "data-dir", "", "where streams and logs are kept (default "+dataDirHelp+")")
	f.IntVar(&o.NATSPort, "nats-port", 0, "port of the NATS server on 127.0.0.1; 0 takes a free one")
	f.IntVar(&o.NATSMonitorPort, "nats-monitor-port", 0, "port of its HTTP pages on 127.0.0.1; 0 serves none")
	f.StringVar(&sync, "nats-sync", "2m", "how often NATS forces data to disk; always is for each write")
	f.IntVar(&o.HTTPPort, "http-port", o.HTTPPort, "first of four ports on 127.0.0.1 for /health, /ready, /metrics and /status of the services")
	f.BoolVar(&plain, "plain", false, "no colours, whatever the terminal can do")
	f.String("config", "", "YAML `file` with settings")
	f.String("config-dir", "", "mounted ConfigMap, one file per key")
	rows := slices.DeleteFunc(config.Rows(), func(r config.Row) bool { return slices.Contains(notOfUp, r.Key) })
	for _, r := range rows {
		def := r.Default
		if r.Key == "mode" {
			def = string(heal.ModeObserve)
		}
		help := r.Help
		if def != "" {
			help += " (default " + def + ")"
		}
		if r.Switch {
			f.Bool(r.Flag, false, help)
		} else {
			f.String(r.Flag, "", help)
		}
	}

	c.RunE = func(cmd *cobra.Command, _ []string) error {
		var err error
		if o.NATSSync, err = parseSync(sync); err != nil {
			return usageError{err}
		}
		if o.HTTPPort < 0 || o.HTTPPort > 65535-3 {
			return usageError{fmt.Errorf("--http-port %d: want 0 to %d", o.HTTPPort, 65535-3)}
		}
		var args []string
		given := []string{"config", "config-dir"}
		for _, r := range rows {
			given = append(given, r.Flag)
		}
		for _, name := range given {
			if flag := f.Lookup(name); flag.Changed {
				args = append(args, "--"+name+"="+flag.Value.String())
			}
		}
		settings, _, err := config.Load(config.Loader{
			Args:     args,
			Environ:  os.Environ(),
			Defaults: map[string]string{"mode": string(heal.ModeObserve)},
		})
		if err != nil {
			return err
		}
		o.Settings = settings
		if o.DataDir == "" {
			o.DataDir = filepath.Join(dataDir(os.Getenv), local.DirName(settings.Kubeconfig, ""))
		}
		if o.DataDir, err = filepath.Abs(o.DataDir); err != nil {
			return err
		}
		log, file, err := local.OpenLog(o.DataDir, settings.DebugMode || settings.VerboseLogging)
		if err != nil {
			return err
		}
		defer file.Close()
		kube.LogTo(log.With("service", "client-go")) // else it writes over the screen
		o.Log, o.LogFile = log, file.Name()
		err = local.Run(cmd.Context(), o, screen.For(os.Stdout, plain))
		var inUse lock.InUseError
		if errors.As(err, &inUse) {
			return fmt.Errorf("%w; stop it, or name another --data-dir", err)
		}
		return err
	}
	return c
}

func parseSync(text string) (time.Duration, error) {
	if text == "always" {
		return embed.SyncAlways, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("--nats-sync %q: want always, or a duration such as 10s", text)
	}
	return d, nil
}

const dataDirHelp = "~/.local/share/selfheal/CONTEXT"

// dataDir is where data of a user belongs
// (https://specifications.freedesktop.org/basedir-spec/latest), or below the
// working directory for a user without a home.
func dataDir(env func(string) string) string {
	if d := env("XDG_DATA_HOME"); filepath.IsAbs(d) {
		return filepath.Join(d, "selfheal")
	}
	if home := env("HOME"); home != "" {
		return filepath.Join(home, ".local", "share", "selfheal")
	}
	return ".selfheal"
}
