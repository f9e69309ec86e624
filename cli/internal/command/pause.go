package command

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/pkg/heal"
)

func pauseCommand() *cobra.Command {
	var o operator
	var reason string
	var span time.Duration
	c := &cobra.Command{
		Use:   "pause",
		Short: "Stop all acting on the cluster, at once",
		Long: `pause stops all acting on a cluster: every actuator obeys within two seconds, also
in the middle of a drain, and so does one that starts later. What fails is still
seen, decided and told; nothing is changed, not even to take back a cordon.

It lasts until ` + "`selfheal resume`" + `, or for as long as --for says.

If NATS cannot be reached, this stops it as well, as the actuator asks the API
server before each change:
  kubectl annotate namespace self-healing selfheal.dev/mode=off
` + operatorHelp,
		Example: `  selfheal pause --reason "the database moves" --for 1h`,
		Args:    noArgs,
	}
	o.flags(c)
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	c.Flags().DurationVar(&span, "for", 0, "after how long it ends by itself; 0 never")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if span < 0 {
			return usageError{fmt.Errorf("--for %s: want 0 or more", span)}
		}
		return o.connected(cmd, func(ctx context.Context) error {
			control := heal.Control{Verb: heal.Pause, Reason: reason}
			until := "until `selfheal resume`"
			if span > 0 {
				control.Until = time.Now().Add(span).UTC()
				until = "for " + span.String() + ", or " + until
			}
			if err := o.control(ctx, control); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "paused: nothing is changed on cluster %s %s\n", o.bus.Cluster(), until)
			return err
		})
	}
	return c
}
