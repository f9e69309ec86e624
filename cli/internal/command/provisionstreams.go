package command

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
)

// keeper is who makes the streams, as NATS knows it.
const keeper = "keeper"

func provisionStreamsCommand() *cobra.Command {
	var r reader
	var keep bool
	var replicas int
	c := &cobra.Command{
		Use:   "streams",
		Short: "Make the streams and buckets, and keep them as they should be",
		Long: `streams makes the streams and buckets that are missing on NATS, and brings those up
to date that are not as they should be. It needs the rights to look at, create and
update streams: the administrator's key, or the keeper's. No service has them where
the chart's own NATS runs: beside each server there this command runs with --keep.
` + operatorHelp,
		Example: `  selfheal provision streams --nats-nkey admin.seed
  selfheal provision streams --nats-url tls://nats.example.com --nats-creds admin.creds --replicas 3`,
		Args: noArgs,
	}
	r.flags(c)
	c.Flags().BoolVar(&keep, "keep", false, "go on looking after them until it is stopped, and log as JSON")
	c.Flags().IntVar(&replicas, "replicas", 1, "how many NATS servers have a copy of each stream: 1, 3 or 5")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if replicas != 1 && replicas != 3 && replicas != 5 {
			return usageError{fmt.Errorf("--replicas %d: want 1, 3 or 5", replicas)}
		}
		o, err := r.options(cmd)
		if err != nil {
			return err
		}
		o.Service, o.Keeper, o.Replicas = keeper, true, replicas
		if keep {
			o.Log = slog.New(slog.NewJSONHandler(cmd.ErrOrStderr(), nil)).With("service", keeper)
		}
		b, err := bus.Connect(o)
		if err != nil {
			return config.Invalid(err)
		}
		defer b.Close()
		if keep {
			return keepStreams(cmd.Context(), b, o.Log)
		}
		ctx, cancel := context.WithTimeoutCause(cmd.Context(), r.timeout, fmt.Errorf("it took longer than --timeout %s", r.timeout))
		defer cancel()
		if err := b.Provision(ctx); err != nil {
			return err
		}
		if err := b.Ready(); err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "every stream and bucket of cluster %s is as it should be\n", b.Cluster())
		return err
	}
	return c
}

// keepStreams never gives up: a container that ends takes the server beside it
// out of service.
func keepStreams(ctx context.Context, b *bus.Bus, log *slog.Logger) error {
	const rest = 10 * time.Second
	for {
		again := time.Duration(1<<63 - 1) // from then on the bus looks by itself
		if err := b.Provision(ctx); err != nil && ctx.Err() == nil {
			log.Error("streams cannot be made, trying again", "err", err, "after", rest.String())
			again = rest
		}
		timer := time.NewTimer(again)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}
