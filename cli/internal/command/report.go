package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/report"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

var reportForms = []string{"html", "md", "json"}

func reportCommand() *cobra.Command {
	var r reporter
	c := &cobra.Command{
		Use:   "report INCIDENT",
		Short: "Write one document about an incident: timeline, cause, evidence, what was done",
		Long: `report writes all that is on record about an incident into one document: what
broke and what shows it, the cause, what was decided and why, which guards refused,
what was done step by step, whether it helped, how to take it back, and who was told.

  html  one page that needs nothing else and opens without a network, light or dark
  md    for an issue, a wiki or the terminal
  json  for programs

Without --format the ending of the file says it, and without a file it is md.
` + operatorHelp,
		Example: `  selfheal report i-2b5nk1hr4tp6k3v9q0e8c7ma
  selfheal report i-2b5nk1hr4tp6k3v9q0e8c7ma -o incident.html
  selfheal report i-2b5nk1hr4tp6k3v9q0e8c7ma --format json | jq .incident.state`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageError{errors.New("which incident? Give its id; `selfheal get incidents` lists them")}
			case len(args) > 1:
				return usageError{fmt.Errorf("unexpected argument %q: one incident at a time", args[1])}
			case args[0] == "" || strings.ContainsFunc(args[0], unicode.IsSpace):
				return usageError{fmt.Errorf("%q is not the id of an incident, such as i-2b5nk1hr4tp6k3v9q0e8c7ma", heal.Clean(args[0], 64))}
			}
			return nil
		},
	}
	r.flags(c)
	r.since.flag(c, "30d", "how far back to look for it")
	f := c.Flags()
	f.StringVar(&r.form, "format", "", "what it is written as: "+strings.Join(reportForms, ", "))
	f.StringVarP(&r.file, "output", "o", "", "the `file` that it is written to, if not printed")
	_ = c.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(reportForms, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := r.check(); err != nil {
			return err
		}
		from, err := r.since.from(time.Now())
		if err != nil {
			return err
		}
		return r.connected(cmd, func(context.Context) error { return r.run(cmd.Context(), cmd.OutOrStdout(), args[0], from) })
	}
	return c
}

// A reporter is one call of report.
type reporter struct {
	reader
	since since
	form  string
	file  string
}

// check settles the form.
func (r *reporter) check() error {
	if r.form == "" {
		r.form = "md"
		if ending := strings.TrimPrefix(filepath.Ext(r.file), "."); slices.Contains(reportForms, ending) {
			r.form = ending
		} else if ending == "htm" {
			r.form = "html"
		}
	}
	if !slices.Contains(reportForms, r.form) {
		return usageError{fmt.Errorf("--format %q: want one of %s", r.form, strings.Join(reportForms, ", "))}
	}
	return nil
}

// run reads twice: what belongs to an incident is only known when every
// decision has been seen, and all that streams hold may be more than fits.
func (r *reporter) run(ctx context.Context, out io.Writer, incident string, from time.Time) error {
	find := report.NewFinder(incident)
	streams := slices.Concat(bus.Journals, bus.Audit)
	_, err := r.bus.Read(ctx, streams, from, func(raw bus.Raw) error {
		find.Look(raw)
		return nil
	})
	if err != nil {
		return err
	}
	var raws []bus.Raw
	_, err = r.bus.Read(ctx, streams, from, func(raw bus.Raw) error {
		if find.Belongs(raw) {
			raws = append(raws, raw)
		}
		return nil
	})
	if err != nil {
		return err
	}
	made, found := report.Make(raws, incident, r.bus.Cluster(), time.Now())
	if !found {
		return fmt.Errorf("no incident %s since %s on cluster %s; `selfheal get incidents` lists them, --since looks further back",
			heal.Clean(incident, 64), clock(from), r.bus.Cluster())
	}
	if r.file == "" {
		return r.write(out, made)
	}
	return r.save(out, made)
}

func (r *reporter) write(w io.Writer, made report.Report) error {
	switch r.form {
	case "html":
		return made.HTML(w)
	case "json":
		return printJSON(w, made)
	}
	return made.Markdown(w)
}

// save writes the whole file or leaves what was there.
func (r *reporter) save(out io.Writer, made report.Report) error {
	f, err := os.CreateTemp(filepath.Dir(r.file), ".report-*")
	if err != nil {
		return err
	}
	err = r.write(f, made)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), r.file)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it is of no use; err says why
		return err
	}
	_, err = fmt.Fprintln(out, "written to "+r.file)
	return err
}
