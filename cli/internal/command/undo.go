package command

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

func undoCommand() *cobra.Command {
	var o operator
	var reason string
	c := &cobra.Command{
		Use:   "undo DECISION-ID",
		Short: "Take back what a decision changed",
		Long: `undo has the actuator take back what a decision changed: a cordon is taken from
its node, a service gets the selector that it had, a workload the template that
was rolled back. The result of the decision says whether it can be (undo).

It is done with the same checks as any change: not while acting is paused, not
against a mark, and only if what was changed is still as the decision left it.
` + operatorHelp,
		Example: `  selfheal undo d-2b5nk1hr4tp6k3v9q0e8c7ma --reason "the image is repaired"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("which decision? Give its id")}
			}
			return oneID(cmd, args)
		},
	}
	o.flags(c)
	c.Flags().StringVar(&reason, "reason", "", "why, for the record")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return o.connected(cmd, func(ctx context.Context) error {
			return o.undo(ctx, cmd, heal.Control{Verb: heal.TakeBack, DecisionID: args[0], Reason: reason})
		})
	}
	return c
}

// undo asks for it, and waits for the answer.
func (o *operator) undo(ctx context.Context, cmd *cobra.Command, c heal.Control) error {
	begin := time.Now()
	if err := o.control(ctx, c); err != nil {
		return err
	}
	answered, stop := context.WithCancel(ctx)
	defer stop()
	var answer *heal.Control
	err := o.bus.Tail(answered, begin.Add(-time.Second), func(raw bus.Raw) error {
		e, err := heal.Decode[heal.Control](raw.Data)
		if err == nil && e.Data.Verb == heal.TakenBack && e.Data.DecisionID == c.DecisionID && !e.Data.At.Before(begin.Add(-time.Millisecond)) {
			answer = &e.Data
			stop()
		}
		return nil
	})
	switch {
	case answer == nil && err != nil && answered.Err() == nil:
		return err
	case answer == nil:
		return fmt.Errorf("no actuator has answered within %s; it still may, for 5 minutes: kubectl describe shows it", o.timeout)
	case answer.Outcome != heal.Succeeded:
		return fmt.Errorf("not undone (%s): %s", answer.Outcome, answer.Reason)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "undone: %s\n", answer.Reason)
	return err
}
