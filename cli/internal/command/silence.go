package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

func silenceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "silence",
		Short: "Keep people from being told of something for a while",
		Long: `A silence keeps back what people would be told. What is seen, decided and done goes
on, and so does the record. What is still wrong when a silence ends is told then.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(silenceAddCommand(), silenceListCommand(), silenceRemoveCommand())
	return c
}

func silences(o *operator) *bus.Store[heal.Silence] {
	return bus.NewStore[heal.Silence](o.bus, bus.SilencesBucket)
}

func silenceAddCommand() *cobra.Command {
	var o operator
	var s heal.Silence
	var span time.Duration
	var severities, types []string
	var labels map[string]string
	c := &cobra.Command{
		Use:   "add",
		Short: "Begin a silence",
		Long: `add begins a silence of what fits everything that is given; in names a * stands for
any number of characters. The end of an incident that people know of is told all
the same.
` + operatorHelp,
		Example: `  selfheal silence add --namespace shop --for 2h --reason "the database moves"
  selfheal silence add --object 'Deployment/checkout-*' --severity low,medium --for 24h --reason "known, ticket 4711"`,
		Args: noArgs,
	}
	o.flags(c)
	f := c.Flags()
	f.DurationVar(&span, "for", 0, "how long, at most 720h (required)")
	f.StringVar(&s.Reason, "reason", "", "why, for the record (required)")
	f.StringSliceVar(&severities, "severity", nil, "low, medium, high, critical")
	f.StringSliceVar(&types, "type", nil, "pod_failure and so on")
	f.StringSliceVar(&s.Match.Reasons, "because", nil, "what is wrong, such as CrashLoopBackOff")
	f.StringSliceVarP(&s.Match.Namespaces, "namespace", "n", nil, "namespaces")
	f.StringSliceVar(&s.Match.Objects, "object", nil, "Kind/name of the owner, or of what is broken")
	f.StringSliceVar(&s.Match.Teams, "team", nil, "teams, by the annotation selfheal.dev/team")
	f.StringToStringVar(&labels, "label", nil, "labels of the owner")
	f.StringVar(&s.Match.Incident, "incident", "", "one incident")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		s.Match.Labels = labels
		for _, v := range severities {
			s.Match.Severities = append(s.Match.Severities, heal.Severity(v))
		}
		for _, v := range types {
			s.Match.Types = append(s.Match.Types, heal.FailureType(v))
		}
		s.At = time.Now().UTC()
		s.Until = s.At.Add(span)
		check := s
		check.ID, check.By = "s", "somebody"
		if err := check.Validate(); err != nil {
			return usageError{err}
		}
		return o.connected(cmd, func(ctx context.Context) error {
			s.By = o.by
			s.ID = heal.MakeSilenceID(s)
			if _, err := silences(&o).Create(ctx, s.ID, s); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: silent until %s, as %s\n", s.ID, s.Until.Format(time.RFC3339), s.By)
			return err
		})
	}
	return c
}

func silenceListCommand() *cobra.Command {
	var o operator
	c := &cobra.Command{Use: "list", Short: "Show the silences that are in force", Long: "list shows the silences that are in force.\n" + operatorHelp, Example: "  selfheal silence list", Args: noArgs}
	o.flags(c)
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		return o.connected(cmd, func(ctx context.Context) error {
			var all []heal.Silence
			now := time.Now()
			err := silences(&o).All(ctx, func(_ string, s heal.Silence, _ uint64) bool {
				if s.In(now) {
					all = append(all, s)
				}
				return true
			})
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if len(all) == 0 {
				_, err := fmt.Fprintln(out, "no silence is in force")
				return err
			}
			slices.SortFunc(all, func(a, b heal.Silence) int { return a.Until.Compare(b.Until) })
			w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "ID\tUNTIL\tBY\tOF\tREASON") // Flush says what went wrong
			for _, s := range all {
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.ID, s.Until.UTC().Format(time.RFC3339), heal.Clean(s.By, 64), describe(s.Match), heal.Clean(s.Reason, heal.MaxText))
			}
			return w.Flush()
		})
	}
	return c
}

// describe writes a match in a few words.
func describe(m heal.Match) string {
	var parts []string
	add := func(name string, values []string) {
		if len(values) > 0 {
			parts = append(parts, name+"="+heal.Clean(strings.Join(values, ","), 128))
		}
	}
	var severities, types, labels []string
	for _, s := range m.Severities {
		severities = append(severities, string(s))
	}
	for _, t := range m.Types {
		types = append(types, string(t))
	}
	for name, value := range m.Labels {
		labels = append(labels, name+":"+value)
	}
	slices.Sort(labels)
	add("severity", severities)
	add("type", types)
	add("because", m.Reasons)
	add("namespace", m.Namespaces)
	add("object", m.Objects)
	add("team", m.Teams)
	add("label", labels)
	if m.Incident != "" {
		add("incident", []string{m.Incident})
	}
	return strings.Join(parts, " ")
}

func silenceRemoveCommand() *cobra.Command {
	var o operator
	c := &cobra.Command{
		Use: "remove ID", Short: "End a silence", Long: "remove ends a silence; what is still wrong is told then.\n" + operatorHelp,
		Example: "  selfheal silence remove s-2b5nk1hr4tp6k3v9q0e8c7ma",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usageError{errors.New("which silence? Give its id; `selfheal silence list` shows them")}
			}
			return nil
		},
	}
	o.flags(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		return o.connected(cmd, func(ctx context.Context) error {
			store := silences(&o)
			s, rev, err := store.Get(ctx, args[0])
			if errors.Is(err, bus.ErrNotFound) {
				return fmt.Errorf("no silence %s; `selfheal silence list` shows them", heal.Clean(args[0], 64))
			}
			if err != nil {
				return err
			}
			if err := store.Delete(ctx, s.ID, rev); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ended, it was for %q\n", s.ID, heal.Clean(s.Reason, heal.MaxText))
			return err
		})
	}
	return c
}
