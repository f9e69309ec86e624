package command

import (
	"context"

	"github.com/spf13/cobra"
)

func rejectCommand() *cobra.Command {
	var o operator
	var reason string
	c := &cobra.Command{
		Use:   "reject DECISION-ID",
		Short: "Refuse a decision that waits for a person",
		Long: `reject refuses a decision that waits for a person: it ends at once, with a result
that says who refused it and why. ` + "`selfheal approve`" + ` lists those that wait.
` + operatorHelp,
		Example: `  selfheal reject d-2b5nk1hr4tp6k3v9q0e8c7ma --reason "we are at it"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errNoID}
			}
			return oneID(cmd, args)
		},
	}
	o.flags(c)
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return o.connected(cmd, func(ctx context.Context) error { return o.answer(ctx, cmd, args[0], false, reason) })
	}
	return c
}
