package command

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// An operator is a person at the command line who tells a running system
// something.
type operator struct {
	reader
	by string
}

// flags adds the operator's flags to c.
func (o *operator) flags(c *cobra.Command) {
	o.reader.flags(c)
	c.Flags().StringVar(&o.by, "by", "", "who you are, for the record (default USER@HOST)")
}

// connected calls do with a bus that is connected.
func (o *operator) connected(cmd *cobra.Command, do func(context.Context) error) error {
	if o.by == "" {
		o.by = whoami()
	}
	return o.reader.connected(cmd, do)
}

// whoami is the user and the host, as far as they are known.
func whoami() string {
	name := "somebody"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}

// A course is a decision and what became of it so far.
type course struct {
	heal.Decision
	made   time.Time
	result *heal.Result // nil while it has none
	answer *heal.Approval
}

// recently is how far back decisions are looked for: none waits longer.
const recently = 30 * time.Minute

// courses reads the decisions that ask for a change and were made recently.
func (o *operator) courses(ctx context.Context) (map[string]*course, error) {
	var f record.Folder
	if err := o.read(ctx, recently, f.Add); err != nil {
		return nil, err
	}
	return coursesOf(f.Record(time.Now())), nil
}

// coursesOf are the decisions that ask for a change.
func coursesOf(r record.Record) map[string]*course {
	all := map[string]*course{}
	for _, d := range r.Decisions {
		if d.Data.Acts() {
			all[d.Data.ID] = &course{Decision: d.Data, made: d.Time, result: r.ResultOf(d.Data.ID), answer: r.AnswerTo(d.Data.ID)}
		}
	}
	return all
}

// waiting are those that nobody has answered, and that have no result, the
// oldest first.
func waiting(all map[string]*course) []*course {
	var open []*course
	for c := range maps.Values(all) {
		if c.result == nil && c.answer == nil {
			open = append(open, c)
		}
	}
	slices.SortFunc(open, func(a, b *course) int {
		if c := a.made.Compare(b.made); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return open
}

// answer tells the system what the person says to a decision.
func (o *operator) answer(ctx context.Context, cmd *cobra.Command, id string, approved bool, reason string) error {
	all, err := o.courses(ctx)
	if err != nil {
		return err
	}
	c, ok := all[id]
	switch {
	case !ok:
		return fmt.Errorf("no decision %s that asks for a change was made on cluster %s within the last %s", heal.Clean(id, 64), o.bus.Cluster(), recently)
	case c.result != nil:
		return fmt.Errorf("decision %s has ended already: %s, %s: %s", c.ID, c.result.Outcome, c.result.Reason, c.result.Message)
	case c.answer != nil:
		return fmt.Errorf("decision %s was answered already: %s by %s", c.ID, verb(c.answer.Approved), c.answer.By)
	}
	a := heal.Approval{DecisionID: id, Approved: approved, By: o.by, Reason: reason, At: time.Now().UTC()}
	if err := a.Validate(); err != nil {
		return usageError{err}
	}
	if err := bus.Approvals.Publish(ctx, o.bus, a); err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s of %s, as %s\n", verb(approved), c.Strategy, c.Target, o.by)
	return err
}

func verb(approved bool) string {
	if approved {
		return "approved"
	}
	return "rejected"
}

// list prints what waits for an answer.
func (o *operator) list(ctx context.Context, cmd *cobra.Command) error {
	all, err := o.courses(ctx)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	open := waiting(all)
	if len(open) == 0 {
		_, err := fmt.Fprintf(out, "no decision on cluster %s waits for an answer\n", o.bus.Cluster())
		return err
	}
	for _, c := range open {
		_, err := fmt.Fprintf(out, "%s  %s of %s, because of %s; until %s\n", c.ID, c.Strategy, c.Target, c.Failure.Reason, c.Expires.UTC().Format(time.TimeOnly+" MST"))
		if err != nil {
			return err
		}
	}
	return nil
}

// control tells the system to pause, or to go on.
func (o *operator) control(ctx context.Context, c heal.Control) error {
	c.By, c.At = o.by, time.Now().UTC()
	if err := c.Validate(); err != nil {
		return usageError{err}
	}
	return bus.Controls.Publish(ctx, o.bus, c)
}

// oneID accepts the id of a decision, or none.
func oneID(_ *cobra.Command, args []string) error {
	switch {
	case len(args) > 1:
		return usageError{fmt.Errorf("unexpected argument %q: one decision at a time", args[1])}
	case len(args) == 1 && (heal.Approval{DecisionID: args[0], By: "-", At: time.Now()}).Validate() != nil:
		return usageError{fmt.Errorf("%q is not a decision's id, such as d-2b5nk1hr4tp6k3v9q0e8c7ma", heal.Clean(args[0], 64))}
	}
	return nil
}

var errNoID = errors.New("which decision? Give its id; `selfheal approve` lists those that wait")
