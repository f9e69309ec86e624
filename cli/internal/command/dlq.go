package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/cli/internal/table"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

func dlqCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "dlq",
		Short: "List, show, replay and drop messages that were given up",
		Long: `dlq is about the dead-letter stream: messages that a stage could not handle, with
the reason and exactly as they came. They are kept for 30 days.

  BadMessage  it does not decode or validate, or does not belong on its subject
  Poison      it was delivered too often without being settled
  Refused     the stage said that no further attempt can help

A dead letter is named by its number, which 'selfheal dlq list' shows.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(dlqListCommand(), dlqShowCommand(), dlqReplayCommand(), dlqDropCommand())
	return c
}

// letters reads the whole dead-letter stream.
func (r *reader) letters(ctx context.Context) ([]record.Letter, error) {
	var f record.Folder
	_, err := r.bus.Read(ctx, []string{bus.DeadLetters.Stream}, time.Time{}, func(raw bus.Raw) error {
		f.Add(raw)
		return nil
	})
	return f.Record(time.Now()).Letters, err
}

func dlqListCommand() *cobra.Command {
	var r reader
	var o form
	c := &cobra.Command{
		Use:   "list",
		Short: "List the dead letters, the oldest first",
		Long:  "list lists the dead letters, the oldest first. Exit code 0, whether there are any or not.\n" + operatorHelp,
		Example: `  selfheal dlq list
  selfheal dlq list -o json | jq '.items[].data.reason'`,
		Args: noArgs,
	}
	r.flags(c)
	o.flag(c, asTable, asJSON)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		return r.connected(cmd, func(ctx context.Context) error {
			letters, err := r.letters(ctx)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if o.value == asJSON {
				if letters == nil {
					letters = []record.Letter{}
				}
				return printJSON(out, map[string]any{"items": letters})
			}
			if len(letters) == 0 {
				_, err := fmt.Fprintf(out, "no message of cluster %s was given up\n", r.bus.Cluster())
				return err
			}
			t := table.New(out, "NUMBER", "GIVEN UP", "BY", "REASON", "TRIES", "SUBJECT", "ERROR")
			var rows [][]string
			for _, l := range letters {
				d := l.Data
				rows = append(rows, []string{fmt.Sprint(l.Sequence), clock(l.Time), d.Stage, d.Reason, fmt.Sprint(d.Delivered), d.Subject, d.Error})
			}
			return t.Write(rows...)
		})
	}
	return c
}

func dlqShowCommand() *cobra.Command {
	var r reader
	var body bool
	c := &cobra.Command{
		Use:   "show NUMBER",
		Short: "Show a dead letter with the message as it came",
		Long: `show prints a dead letter: where its message came from, why it was given up, its
headers and its body. What does not belong on a terminal is written as \x…; with
--body the body alone is printed, byte by byte as it came.
` + operatorHelp,
		Example: `  selfheal dlq show 3
  selfheal dlq show 3 --body | jq .data`,
		Args: numbers(1),
	}
	r.flags(c)
	c.Flags().BoolVar(&body, "body", false, "print nothing but the body, as it came")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return r.connected(cmd, func(ctx context.Context) error {
			chosen, err := r.chosen(ctx, args, false)
			if err != nil {
				return err
			}
			if body {
				_, err := cmd.OutOrStdout().Write(chosen[0].Data.Body)
				return err
			}
			return showLetter(cmd.OutOrStdout(), chosen[0])
		})
	}
	return c
}

func showLetter(out io.Writer, l record.Letter) error {
	d := l.Data
	text := fmt.Sprintf("number     %d\ngiven up   %s by %s, after %d deliveries\nreason     %s: %s\nfrom       %s, number %d, subject %s\n",
		l.Sequence, clock(l.Time), d.Stage, d.Delivered, d.Reason, d.Error, d.Stream, d.Sequence, printable(d.Subject))
	for _, key := range slices.Sorted(maps.Keys(d.Headers)) {
		for _, v := range d.Headers[key] {
			text += fmt.Sprintf("header     %s: %s\n", printable(key), printable(v))
		}
	}
	if d.Truncated {
		text += "body       the beginning; the rest was too long to keep\n"
	}
	_, err := fmt.Fprintf(out, "%s\n%s\n", text, printable(string(d.Body)))
	return err
}

// printable writes out what a terminal would obey.
func printable(s string) string {
	quoted := strconv.QuoteToGraphic(s)
	text, err := strconv.Unquote(quoted)
	if err == nil && text == s && heal.Clean(s, len(s)+1) == s {
		return s
	}
	return quoted[1 : len(quoted)-1]
}

func dlqReplayCommand() *cobra.Command {
	var r reader
	var all, keep bool
	c := &cobra.Command{
		Use:   "replay NUMBER...",
		Short: "Send messages again to where they came from",
		Long: `replay stores messages again where they came from, as they were, and then drops
their dead letters. All who listen there get them once more, which does no harm:
everything here assumes that a message may come twice, and a decision is refused
once it has expired. Mend first what made them fail, or they come back.

A letter that is still there (--keep) and is replayed again within an hour is
stored once.
` + operatorHelp,
		Example: `  selfheal dlq replay 3 4
  selfheal dlq replay --all`,
		Args: numbersOrAll(&all),
	}
	r.flags(c)
	c.Flags().BoolVar(&all, "all", false, "every dead letter that was kept whole")
	c.Flags().BoolVar(&keep, "keep", false, "keep the dead letters")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return r.eachLetter(cmd, args, all, func(ctx context.Context, l record.Letter) (string, error) {
			if err := bus.Replay(ctx, r.bus, l.Data, l.Sequence); err != nil {
				return "", err
			}
			if !keep {
				if err := bus.Drop(ctx, r.bus, l.Sequence); err != nil {
					return "", fmt.Errorf("it was replayed, but: %w", err)
				}
			}
			return fmt.Sprintf("replayed %d to %s", l.Sequence, printable(l.Data.Subject)), nil
		})
	}
	return c
}

func dlqDropCommand() *cobra.Command {
	var r reader
	var all bool
	c := &cobra.Command{
		Use:   "drop NUMBER...",
		Short: "Delete dead letters, for good",
		Long:  "drop deletes dead letters, for good. The audit stream keeps what it has of their messages.\n" + operatorHelp,
		Example: `  selfheal dlq drop 3 4
  selfheal dlq drop --all`,
		Args: numbersOrAll(&all),
	}
	r.flags(c)
	c.Flags().BoolVar(&all, "all", false, "every dead letter")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return r.eachLetter(cmd, args, all, func(ctx context.Context, l record.Letter) (string, error) {
			return fmt.Sprintf("dropped %d: %s of %s", l.Sequence, l.Data.Reason, l.Data.Stage), bus.Drop(ctx, r.bus, l.Sequence)
		})
	}
	return c
}

// eachLetter does something to the letters of args, or to all, and goes on
// with the next when that fails.
func (r *reader) eachLetter(cmd *cobra.Command, args []string, all bool, do func(context.Context, record.Letter) (string, error)) error {
	return r.connected(cmd, func(ctx context.Context) error {
		chosen, err := r.chosen(ctx, args, all)
		if err != nil {
			return err
		}
		var errs []error
		for _, l := range chosen {
			said, err := do(ctx, l)
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), said)
			}
			errs = append(errs, err)
		}
		if len(chosen) == 0 {
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "no message of cluster %s was given up\n", r.bus.Cluster())
			return err
		}
		return errors.Join(errs...)
	})
}

// chosen are the letters of the numbers in args, or all of them.
func (r *reader) chosen(ctx context.Context, args []string, all bool) ([]record.Letter, error) {
	letters, err := r.letters(ctx)
	if err != nil || all {
		return letters, err
	}
	var chosen []record.Letter
	for _, arg := range args {
		i := slices.IndexFunc(letters, func(l record.Letter) bool { return strconv.FormatUint(l.Sequence, 10) == arg })
		if i < 0 {
			return nil, fmt.Errorf("no dead letter of cluster %s has the number %s; `selfheal dlq list` shows those that there are", r.bus.Cluster(), arg)
		}
		chosen = append(chosen, letters[i])
	}
	return chosen, nil
}

// numbers accepts up to most numbers of dead letters, but at least one.
func numbers(most int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usageError{errors.New("which dead letter? Give its number; `selfheal dlq list` shows it")}
		}
		if len(args) > most {
			return usageError{fmt.Errorf("unexpected argument %q: one dead letter at a time", args[most])}
		}
		for _, arg := range args {
			if n, err := strconv.ParseUint(arg, 10, 64); err != nil || n == 0 {
				return usageError{fmt.Errorf("%q is not a dead letter's number, such as 3", heal.Clean(arg, 64))}
			}
		}
		return nil
	}
}

func numbersOrAll(all *bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case *all && len(args) > 0:
			return usageError{fmt.Errorf("--all and %s: give one of them", args[0])}
		case *all:
			return nil
		}
		return numbers(len(args))(cmd, args)
	}
}
