package command

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/overview"
	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/cli/internal/table"
	"github.com/selfheal/selfheal/pkg/heal"
)

func statusCommand() *cobra.Command {
	var r reader
	var o form
	var s since
	c := &cobra.Command{
		Use:   "status",
		Short: "Say in one screen whether the system is healing",
		Long: `status says whether acting is paused, how well the cluster is seen, how incidents
stand, how tries to heal ended, and how far behind each stage is.

  LISTENS   somebody asks for messages there
  WAITING   messages that are stored and not delivered yet
  IN HAND   messages that are delivered and not settled yet
  AGAIN     of those, delivered before

Exit code 0 if it could look, whatever it saw; 'selfheal doctor' judges.
` + operatorHelp,
		Example: `  selfheal status
  selfheal status -o json | jq .incidents.open
  kubectl selfheal status --nats-context production`,
		Args: noArgs,
	}
	r.flags(c)
	o.flag(c, asTable, asJSON, asYAML)
	s.flag(c, "24h", "how far back to count")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		from, err := s.from(time.Now())
		if err != nil {
			return err
		}
		return r.connected(cmd, func(ctx context.Context) error {
			facts, err := overview.Gather(ctx, r.bus, from)
			if err != nil {
				return err
			}
			switch o.value {
			case asJSON:
				return printJSON(cmd.OutOrStdout(), facts.Status())
			case asYAML:
				return printYAML(cmd.OutOrStdout(), facts.Status())
			}
			return printStatus(cmd.OutOrStdout(), facts.Status())
		})
	}
	return c
}

func printStatus(out io.Writer, s overview.Status) error {
	acting := "allowed"
	if s.Paused != nil {
		acting = overview.Says(*s.Paused)
	}
	span := " since " + clock(s.Since)
	lines := [][2]string{
		{"cluster", s.Cluster},
		{"nats", s.NATS.URL + ", " + s.NATS.Version},
		{"acting", acting},
		{"sight", s.Sight},
		{"incidents", counts(record.States, s.Incidents) + span},
		{"tries", counts(heal.Outcomes, s.Tries) + fmt.Sprintf("; %d decisions asked for no change", s.Untried) + span},
		{"dead letters", fmt.Sprint(s.DeadLetters)},
	}
	if len(s.Waiting) > 0 {
		lines = append(lines, [2]string{"for you", fmt.Sprintf("%d decisions wait for an answer: selfheal approve", len(s.Waiting))})
	}
	if s.Unread > 0 {
		lines = append(lines, [2]string{"unreadable", fmt.Sprintf("%d messages", s.Unread)})
	}
	for _, l := range lines {
		if _, err := fmt.Fprintf(out, "%-13s %s\n", l[0], l[1]); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	t := table.New(out, "STREAM", "CONSUMER", "LISTENS", "WAITING", "IN HAND", "AGAIN", "LAST")
	var rows [][]string
	for _, st := range s.Stages {
		listens := "no"
		switch {
		case !st.Exists:
			listens = "never"
		case st.Listens:
			listens = "yes"
		}
		rows = append(rows, []string{st.Stream, st.Consumer, listens, fmt.Sprint(st.Pending), fmt.Sprint(st.InHand), fmt.Sprint(st.Repeated), clock(st.Delivered)})
	}
	return t.Write(rows...)
}

// counts says how many there are of each, in the given order, none left out
// but zeros.
func counts[K ~string](order []K, of map[K]int) string {
	var said []string
	for _, k := range order {
		if n := of[k]; n > 0 {
			said = append(said, fmt.Sprintf("%d %s", n, strings.ReplaceAll(string(k), "_", " ")))
		}
	}
	if len(said) == 0 {
		return "none"
	}
	return strings.Join(said, ", ")
}
