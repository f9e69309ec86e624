package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/demo"
	"github.com/selfheal/selfheal/cli/internal/embed"
	"github.com/selfheal/selfheal/cli/internal/local"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
)

// ofOperator are the settings that commands need which talk to a running system.
var ofOperator = []string{"nats_url", "nats_creds", "nats_nkey", "cluster", "kubeconfig"}

const operatorHelp = `
It talks to NATS: where --nats-url or --nats-context says, or the environment as
for the services, or $NATS_CONTEXT. Else that is the NATS of 'selfheal up' for the
cluster that kubectl talks to, or of 'selfheal demo --keep' below this directory,
if either runs here, and else nats://127.0.0.1:4222.`

// A reader is somebody at the command line who looks at a running system.
type reader struct {
	dataDir     string
	context     string // of kubectl
	natsContext string
	timeout     time.Duration

	bus *bus.Bus
}

// flags adds the flags that say which system.
func (r *reader) flags(c *cobra.Command) {
	f := c.Flags()
	for _, row := range config.Rows() {
		if slices.Contains(ofOperator, row.Key) {
			f.String(row.Flag, "", row.Help)
		}
	}
	f.StringVar(&r.context, "context", "", "the context of the kubeconfig, if not its current one")
	f.StringVar(&r.natsContext, "nats-context", "", "a context of the nats command line that says where NATS is and who you are")
	f.StringVar(&r.dataDir, "data-dir", "", "where 'selfheal up' keeps its data (default "+dataDirHelp+")")
	f.DurationVar(&r.timeout, "timeout", 10*time.Second, "how long to wait for NATS")
}

// connected calls do with a bus that is connected. What do is given ends after
// the timeout; what lasts longer goes by the command's own context.
func (r *reader) connected(cmd *cobra.Command, do func(context.Context) error) error {
	if r.timeout <= 0 {
		return usageError{fmt.Errorf("--timeout %s: want more than 0", r.timeout)}
	}
	options, err := r.options(cmd)
	if err != nil {
		return err
	}
	b, err := bus.Connect(options)
	if err != nil {
		return config.Invalid(err)
	}
	defer b.Close()
	r.bus = b
	ctx, cancel := context.WithTimeoutCause(cmd.Context(), r.timeout, fmt.Errorf("it took longer than --timeout %s", r.timeout))
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for err := b.Ready(); err != nil; err = b.Ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; --nats-url or --nats-context says where it is", err)
		}
	}
	return do(ctx)
}

// settings are those of the settings that the command takes.
func (r *reader) settings(cmd *cobra.Command) (config.Settings, *config.Origins, error) {
	var args []string
	for _, row := range config.Rows() {
		if flag := cmd.Flags().Lookup(row.Flag); slices.Contains(ofOperator, row.Key) && flag.Changed {
			args = append(args, "--"+row.Flag+"="+flag.Value.String())
		}
	}
	return config.Load(config.Loader{Service: "selfheal", Args: args, Environ: os.Environ()})
}

// options finds out where the bus is.
func (r *reader) options(cmd *cobra.Command) (bus.Options, error) {
	settings, origins, err := r.settings(cmd)
	if err != nil {
		return bus.Options{}, err
	}
	options := bus.Options{
		URL: settings.NATSURL, Service: "selfheal", Cluster: settings.Cluster,
		CredsFile: settings.NATSCreds, NKeyFile: settings.NATSNKey,
	}
	if r.natsContext != "" && cmd.Flags().Changed("nats-url") {
		return options, usageError{errors.New("--nats-url and --nats-context: give one of them")}
	}
	if r.natsContext != "" {
		return natsContext(options, r.natsContext)
	}
	if origins.Of("nats_url").From != "default" {
		return options, nil
	}
	if name := os.Getenv("NATS_CONTEXT"); name != "" {
		return natsContext(options, name)
	}
	up := r.dataDir
	if up == "" {
		up = filepath.Join(dataDir(os.Getenv), local.DirName(settings.Kubeconfig, r.context))
	}
	for _, dir := range []string{up, demo.DefaultDir} {
		if a, found := embed.Find(filepath.Join(dir, "nats")); found {
			options.URL = a.URL
			if origins.Of("cluster").From == "default" && a.Cluster != "" {
				options.Cluster = a.Cluster
			}
			return options, nil
		}
	}
	return options, nil
}

// natsContext is where and who a context of the nats command line says.
func natsContext(o bus.Options, name string) (bus.Options, error) {
	home := os.Getenv("XDG_CONFIG_HOME")
	if home == "" {
		home = filepath.Join(os.Getenv("HOME"), ".config")
	}
	o, err := bus.NATSContext(o, home, name)
	if err != nil {
		return o, usageError{err}
	}
	return o, nil
}

// read hands over all that the journals have stored within the time before now.
func (r *reader) read(ctx context.Context, within time.Duration, add func(bus.Raw)) error {
	_, err := r.bus.Read(ctx, bus.Journals, time.Now().Add(-within), func(raw bus.Raw) error {
		add(raw)
		return nil
	})
	return err
}
