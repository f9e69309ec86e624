package command

import (
	"context"

	"github.com/spf13/cobra"
)

func approveCommand() *cobra.Command {
	var o operator
	var reason string
	c := &cobra.Command{
		Use:   "approve [DECISION-ID]",
		Short: "Agree to a decision that waits for a person",
		Long: `approve agrees to a decision that was made in mode approve, or about something
that carries the annotation selfheal.dev/mode: approve. The cluster is looked at
again then, and if the decision still holds it is carried out. Who agreed is in
its result. The first answer counts; without any the decision expires.

Without an id it lists the decisions that have no answer and no result yet.
` + operatorHelp,
		Example: `  selfheal approve
  selfheal approve d-2b5nk1hr4tp6k3v9q0e8c7ma --reason "looked at the logs"`,
		Args: oneID,
	}
	o.flags(c)
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return o.connected(cmd, func(ctx context.Context) error {
			if len(args) == 0 {
				return o.list(ctx, cmd)
			}
			return o.answer(ctx, cmd, args[0], true, reason)
		})
	}
	return c
}
