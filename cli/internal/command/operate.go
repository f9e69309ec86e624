package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/demo"
	"github.com/selfheal/selfheal/cli/internal/embed"
	"github.com/selfheal/selfheal/cli/internal/local"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
)

// ofOperator are the settings that commands need which talk to a running system.
var ofOperator = []string{"nats_url", "nats_creds", "nats_nkey", "cluster", "kubeconfig"}

const operatorHelp = `
It talks to NATS. Unless an address is given, by a flag or by the environment as
for the services, that is the one of 'selfheal up' for the cluster that kubectl
talks to, or of 'selfheal demo --keep' below this directory, if either runs here,
and else nats://127.0.0.1:4222.`

// An operator is a person at the command line who tells a running system
// something.
type operator struct {
	dataDir string
	by      string
	timeout time.Duration

	bus *bus.Bus
}

// flags adds the operator's flags to c.
func (o *operator) flags(c *cobra.Command) {
	f := c.Flags()
	for _, r := range config.Rows() {
		if slices.Contains(ofOperator, r.Key) {
			f.String(r.Flag, "", r.Help)
		}
	}
	f.StringVar(&o.dataDir, "data-dir", "", "where 'selfheal up' keeps its data (default "+dataDirHelp+")")
	f.StringVar(&o.by, "by", "", "who you are, for the record (default USER@HOST)")
	f.DurationVar(&o.timeout, "timeout", 10*time.Second, "how long to wait for NATS")
}

// connected calls do with a bus that is connected.
func (o *operator) connected(cmd *cobra.Command, do func(context.Context) error) error {
	if o.timeout <= 0 {
		return usageError{fmt.Errorf("--timeout %s: want more than 0", o.timeout)}
	}
	options, err := o.options(cmd)
	if err != nil {
		return err
	}
	if o.by == "" {
		o.by = whoami()
	}
	b, err := bus.Connect(options)
	if err != nil {
		return config.Invalid(err)
	}
	defer b.Close()
	o.bus = b
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for err := b.Ready(); err != nil; err = b.Ready() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%w; --nats-url says where it is", err)
		}
	}
	return do(ctx)
}

// options finds out where the bus is.
func (o *operator) options(cmd *cobra.Command) (bus.Options, error) {
	var args []string
	for _, r := range config.Rows() {
		if flag := cmd.Flags().Lookup(r.Flag); slices.Contains(ofOperator, r.Key) && flag.Changed {
			args = append(args, "--"+r.Flag+"="+flag.Value.String())
		}
	}
	settings, origins, err := config.Load(config.Loader{Service: "selfheal", Args: args, Environ: os.Environ()})
	if err != nil {
		return bus.Options{}, err
	}
	options := bus.Options{
		URL: settings.NATSURL, Service: "selfheal", Cluster: settings.Cluster,
		CredsFile: settings.NATSCreds, NKeyFile: settings.NATSNKey,
	}
	if origins.Of("nats_url").From != "default" {
		return options, nil
	}
	up := o.dataDir
	if up == "" {
		up = filepath.Join(dataDir(os.Getenv), local.DirName(settings.Kubeconfig))
	}
	for _, dir := range []string{up, demo.DefaultDir} {
		if a, found := embed.Find(filepath.Join(dir, "nats")); found {
			options.URL = a.URL
			if origins.Of("cluster").From == "default" && a.Cluster != "" {
				options.Cluster = a.Cluster
			}
			return options, nil
		}
	}
	return options, nil
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
	all := map[string]*course{}
	results := map[string]heal.Result{}
	answers := map[string]heal.Approval{}
	reading, stop := context.WithCancel(ctx)
	defer stop()
	// The streams do not say when all was read; when they are quiet, it was.
	const quiet = 700 * time.Millisecond
	over := time.AfterFunc(quiet, stop)
	defer over.Stop()
	err := o.bus.Tail(reading, time.Now().Add(-recently), func(raw bus.Raw) error {
		over.Reset(quiet)
		var head struct {
			Type string `json:"type"`
		}
		_ = json.Unmarshal(raw.Data, &head) // what cannot be read has no type, and is nobody's answer
		switch head.Type {
		case heal.TypeDecisionMade:
			if e, err := heal.Decode[heal.Decision](raw.Data); err == nil && e.Data.Acts() {
				all[e.Data.ID] = &course{Decision: e.Data, made: e.Time}
			}
		case heal.TypeActionCompleted:
			if e, err := heal.Decode[heal.Result](raw.Data); err == nil {
				results[e.Data.Decision.ID] = e.Data
			}
		case heal.TypeApprovalGiven:
			if e, err := heal.Decode[heal.Approval](raw.Data); err == nil {
				if _, earlier := answers[e.Data.DecisionID]; !earlier {
					answers[e.Data.DecisionID] = e.Data
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read the decisions: %w", err)
	}
	for id, c := range all {
		if r, ok := results[id]; ok {
			c.result = &r
		}
		if a, ok := answers[id]; ok {
			c.answer = &a
		}
	}
	return all, nil
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
