package command

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/cli/internal/table"
	"github.com/selfheal/selfheal/cli/internal/timeline"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// A resource is something that can be listed.
type resource struct {
	name    string
	columns []string
	items   func(record.Record) []item
}

// An item is one of them.
type item struct {
	key       string // its id
	namespace string
	over      bool // nothing more is to be expected of it
	row       []string
	value     any // for JSON and YAML
}

// resources is everything that get lists.
var resources = []resource{
	{"incidents", []string{"OPENED", "STATE", "SEVERITY", "TYPE", "OBJECT", "REASON", "CAUSE", "FAILING", "TRIES", "STRATEGY", "OUTCOME", "INCIDENT"}, incidentItems},
	{"failures", []string{"FIRST SEEN", "LAST SEEN", "STATE", "TYPE", "OBJECT", "REASON", "TIMES", "INCIDENT"}, failureItems},
	{"decisions", []string{"MADE", "STRATEGY", "MODE", "SEVERITY", "OBJECT", "REASON", "RESULT", "DECISION"}, decisionItems},
	{"results", []string{"ENDED", "OUTCOME", "STRATEGY", "OBJECT", "REASON", "TOOK", "DECISION", "MESSAGE"}, resultItems},
}

func incidentItems(r record.Record) []item {
	var all []item
	for _, i := range r.Incidents {
		all = append(all, item{i.ID, i.Object.Namespace, i.State.Over(), []string{
			clock(i.Opened), string(i.State), string(i.Severity), string(i.Type), i.Object.String(), i.Reason, string(i.Cause),
			fmt.Sprintf("%d/%d", i.Failing, i.Failures), fmt.Sprint(i.Tries), string(i.Strategy), string(i.Outcome), i.ID,
		}, i})
	}
	return all
}

func failureItems(r record.Record) []item {
	var all []item
	for _, e := range r.Failures {
		f := e.Data
		state, last := "failing", f.Timestamp.Time
		if f.Resolved() {
			state, last = "resolved", f.ResolvedAt
		}
		all = append(all, item{f.EpisodeID, f.Target.Namespace, f.Resolved(), []string{
			clock(f.FirstSeen), clock(last), state, string(f.Type), f.Target.String(), f.Reason, fmt.Sprint(f.Occurrence), f.IncidentID(),
		}, e})
	}
	return all
}

func decisionItems(r record.Record) []item {
	var all []item
	for _, e := range r.Decisions {
		d := e.Data
		ending := ""
		switch result, answer := r.ResultOf(d.ID), r.AnswerTo(d.ID); {
		case result != nil:
			ending = string(result.Outcome)
		case answer != nil:
			ending = verb(answer.Approved)
		case d.Acts() && d.Mode == heal.ModeApprove:
			ending = "waits"
		}
		all = append(all, item{d.ID, d.Target.Namespace, r.ResultOf(d.ID) != nil, []string{
			clock(e.Time), string(d.Strategy), string(d.Mode), string(d.Severity), d.Target.String(), d.Reason, ending, d.ID,
		}, e})
	}
	return all
}

func resultItems(r record.Record) []item {
	var all []item
	for _, e := range r.Results {
		d := e.Data.Decision
		took := time.Duration(e.Data.Duration * float64(time.Second))
		all = append(all, item{d.ID, d.Target.Namespace, false, []string{
			clock(e.Data.StartedAt.Add(took)), string(e.Data.Outcome), string(d.Strategy), d.Target.String(), e.Data.Reason,
			timeline.Duration(took), d.ID, heal.Clean(e.Data.Message, heal.MaxText),
		}, e})
	}
	return all
}

func getCommand() *cobra.Command {
	g := getter{}
	var names []string
	for _, r := range resources {
		names = append(names, r.name)
	}
	c := &cobra.Command{
		Use:   "get " + strings.Join(names, "|") + " [ID]",
		Short: "List incidents, failures, decisions or results",
		Long: `get lists what the streams hold: incidents (all that belongs to one trouble),
failures (each from first seen to gone), decisions and results; or the one of the
id that is given: of an incident, an episode, or a decision.

The state of an incident is
  open       it fails, and nothing is being done
  waiting    a decision waits for a person; see 'selfheal approve'
  acting     a decision is being carried out
  given_up   several tries did not help: a person must look
  healed     something was done, and was seen to have helped
  recovered  it went away by itself

Without -n those of all namespaces are listed. Times are UTC.
` + operatorHelp,
		Example: `  selfheal get incidents
  selfheal get incidents --open -n shop
  selfheal get decisions --since 7d -o json
  selfheal get results -w   # until Ctrl-C`,
		ValidArgs: names,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageError{fmt.Errorf("get what? One of %s", strings.Join(names, ", "))}
			case !slices.Contains(names, listName(args[0])):
				return usageError{fmt.Errorf("%q is nothing to get; want one of %s", heal.Clean(args[0], 64), strings.Join(names, ", "))}
			case len(args) > 2:
				return usageError{fmt.Errorf("unexpected argument %q: one id at a time", args[2])}
			}
			return nil
		},
	}
	g.flags(c)
	f := c.Flags()
	g.form.flag(c, asTable, asJSON, asYAML, asNDJSON)
	g.since.flag(c, "24h", "how far back to look")
	f.StringVarP(&g.namespace, "namespace", "n", "", "only what concerns objects of this namespace")
	f.BoolVarP(&g.all, "all-namespaces", "A", false, "of all namespaces, which is also the default")
	f.BoolVar(&g.open, "open", false, "only what is not over: no result yet, still failing")
	f.BoolVarP(&g.watch, "watch", "w", false, "go on with what comes and changes, until interrupted")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := g.form.check(); err != nil {
			return err
		}
		if g.all && g.namespace != "" {
			return usageError{fmt.Errorf("-A and -n %s: give one of them", g.namespace)}
		}
		from, err := g.since.from(time.Now())
		if err != nil {
			return err
		}
		g.out = cmd.OutOrStdout()
		g.resource = resources[slices.Index(names, listName(args[0]))]
		if len(args) == 2 {
			g.id = args[1]
		}
		return g.connected(cmd, func(ctx context.Context) error { return g.run(ctx, cmd.Context(), from) })
	}
	return c
}

// listName lets people say `get incident i-…`.
func listName(name string) string { return strings.TrimSuffix(strings.ToLower(name), "s") + "s" }

// A getter is one call of get.
type getter struct {
	reader
	form      form
	since     since
	namespace string
	all       bool
	open      bool
	watch     bool

	resource resource
	id       string
	out      io.Writer
	table    *table.Writer
	printed  map[string]string // rows, by key
}

// run prints what there is, and what comes while lasting is not done.
func (g *getter) run(ctx, lasting context.Context, from time.Time) error {
	var f record.Folder
	mark, err := g.bus.Read(ctx, bus.Journals, from, func(raw bus.Raw) error {
		f.Add(raw)
		return nil
	})
	if err != nil {
		return err
	}
	g.table = table.New(g.out, g.resource.columns...)
	g.printed = map[string]string{}
	items := g.fresh(&f)
	if len(items) == 0 && g.id != "" && !g.watch {
		return fmt.Errorf("no %s %s since %s on cluster %s", strings.TrimSuffix(g.resource.name, "s"), heal.Clean(g.id, 64), clock(from), g.bus.Cluster())
	}
	if err := g.print(items); err != nil || !g.watch {
		return err
	}
	return follow(lasting, g.bus, mark, f.Add, func() error { return g.print(g.fresh(&f)) })
}

// fresh is what has changed since the last call.
func (g *getter) fresh(f *record.Folder) []item {
	var items []item
	for _, i := range g.resource.items(f.Record(time.Now())) {
		row := strings.Join(i.row, "\x00")
		if g.id != "" && i.key != g.id || g.namespace != "" && i.namespace != g.namespace || g.printed[i.key] == row {
			continue
		}
		if _, before := g.printed[i.key]; g.open && i.over && !before {
			continue
		}
		g.printed[i.key] = row
		items = append(items, i)
	}
	return items
}

func (g *getter) print(items []item) error {
	form := g.form.value
	if g.watch && form == asJSON {
		form = asNDJSON // a list that never ends is not JSON
	}
	var rows [][]string
	values := []any{}
	for _, i := range items {
		rows = append(rows, i.row)
		values = append(values, i.value)
	}
	switch {
	case form == asTable && len(rows) == 0 && !g.watch:
		_, err := fmt.Fprintf(g.out, "no %s on cluster %s\n", g.resource.name, g.bus.Cluster())
		return err
	case form == asTable:
		return g.table.Write(rows...)
	case len(values) == 1 && g.id != "" && form == asJSON:
		return printJSON(g.out, values[0])
	case form == asJSON:
		return printJSON(g.out, map[string]any{"items": values})
	case form == asYAML && !g.watch && g.id == "":
		return printYAML(g.out, map[string]any{"items": values})
	}
	for _, v := range values {
		var err error
		if form == asYAML {
			if _, err = fmt.Fprintln(g.out, "---"); err == nil {
				err = printYAML(g.out, v)
			}
		} else {
			err = printLine(g.out, v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// follow hands over what comes after the mark, and calls look soon after
// anything has, until ctx is done. That is no error: a person ends it.
func follow(ctx context.Context, b *bus.Bus, mark bus.Mark, add func(bus.Raw), look func() error) error {
	const settle = 200 * time.Millisecond // what belongs together comes together
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	raws := make(chan bus.Raw)
	ended := make(chan error, 1)
	go func() {
		ended <- b.TailFrom(ctx, mark, func(raw bus.Raw) error {
			select {
			case raws <- raw:
			case <-ctx.Done():
			}
			return nil
		})
	}()
	var due <-chan time.Time
	for {
		select {
		case raw := <-raws:
			add(raw)
			if due == nil {
				due = time.After(settle)
			}
		case <-due:
			due = nil
			if err := look(); err != nil {
				cancel(err)
				return cmp.Or(err, <-ended) // which it waits for
			}
		case err := <-ended:
			return err
		}
	}
}
