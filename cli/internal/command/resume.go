package command

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/pkg/heal"
)

func resumeCommand() *cobra.Command {
	var o operator
	var reason string
	c := &cobra.Command{
		Use:   "resume",
		Short: "End a pause",
		Long: `resume ends a pause. What was decided meanwhile is not made up for: what still
fails is decided anew. A mark on the namespace that the services run in stays:
  kubectl annotate namespace self-healing selfheal.dev/mode-
` + operatorHelp,
		Example: `  selfheal resume --reason "the database is back"`,
		Args:    noArgs,
	}
	o.flags(c)
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return o.connected(cmd, func(ctx context.Context) error {
			if err := o.control(ctx, heal.Control{Verb: heal.Resume, Reason: reason}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "resumed: acting on cluster %s goes on\n", o.bus.Cluster())
			return err
		})
	}
	return c
}
