package command

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer"
)

// builtIn is how the command line calls the policy that counts without a file.
const builtIn = "built-in"

func simulateCommand() *cobra.Command {
	var r reader
	var out form
	var back since
	var candidate, against, from, mode string
	var keep int
	var fail bool
	c := &cobra.Command{
		Use:   "simulate --policy FILE",
		Short: "Judge what was recorded by another policy, and print what would differ",
		Long: `simulate takes the failures and results that were recorded, and judges them again by
the same code as the analyzer and by the recorded times: once by the policy in force
(or --against), and once by the candidate. It prints how many decisions each makes
of each strategy and for each reason, and every decision that differs, with why.
Nothing is changed.

What nobody can know is taken so: the watchers saw clearly; and an action that was
not taken then, or was another one, ends when the recorded one did and neither helps
nor harms. So what failed then fails in both.

--from reads a file instead of the streams, a message on a line as 'selfheal audit
-o ndjson' prints them ("-" is the standard input), and is compared with the
built-in policy unless --against says another. A policy is judged as in mode auto
then: what would be done if it might.
` + operatorHelp,
		Example: `  selfheal simulate --policy candidate.yaml --since 7d
  selfheal audit --since 30d -o ndjson > events.ndjson
  selfheal simulate --policy candidate.yaml --from events.ndjson --against policy.yaml
  selfheal simulate --policy candidate.yaml -o json | jq .after.strategies`,
		Args: noArgs,
	}
	r.flags(c)
	out.flag(c, asTable, asJSON, asYAML)
	back.flag(c, "24h", "how far back to look in the streams")
	f := c.Flags()
	f.StringVar(&candidate, "policy", "", "the `file` of the policy to try (or built-in)")
	f.StringVar(&against, "against", "", "compare with the policy of this `file`, or with built-in (default: the one in force)")
	f.StringVar(&from, "from", "", "read what was recorded from this `file`")
	f.StringVar(&mode, "mode", "", "judge both in this mode (default: the analyzer's, or auto with --from)")
	f.IntVar(&keep, "limit", 50, "how many of the differences to print")
	f.BoolVar(&fail, "exit-code", false, "exit with 1 if anything differs")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := out.check(); err != nil {
			return err
		}
		if mode != "" && !slices.Contains(heal.Modes, heal.Mode(mode)) {
			return usageError{fmt.Errorf("--mode %q: want one of off, observe, approve, auto", mode)}
		}
		if candidate == "" {
			return usageError{errors.New("simulate what? Give the candidate with --policy FILE")}
		}
		if keep < 0 {
			return usageError{fmt.Errorf("--limit %d: want 0 or more", keep)}
		}
		after, err := policyOf(candidate)
		if err != nil {
			return err
		}
		before := analyzer.ReplayConfig{Mode: heal.Mode(mode)}
		if against != "" || from != "" {
			if before.Policy, err = policyOf(cmp.Or(against, builtIn)); err != nil {
				return err
			}
		}
		var records []analyzer.Recorded
		if from != "" {
			records, err = recordedIn(cmd.InOrStdin(), from)
		} else {
			start, wrong := back.from(time.Now())
			if wrong != nil {
				return wrong
			}
			err = r.connected(cmd, func(ctx context.Context) error {
				force, err := bus.Ask[analyzer.PolicyInForce](ctx, r.bus, "analyzer", "policy", nil)
				switch {
				case err == nil:
					before.Mode = cmp.Or(before.Mode, force.Mode)
					before.RecoveryTimeout, before.Protected = time.Duration(force.RecoveryTimeout*float64(time.Second)), force.Protected
					if against == "" {
						if before.Policy, err = analyzer.ParsePolicy(force.Policy); err != nil {
							return fmt.Errorf("the policy in force: %w", err)
						}
					}
				case against == "":
					return fmt.Errorf("%w; --against says what to compare with instead", err)
				}
				records, err = recordedSince(ctx, r.bus, start)
				return err
			})
		}
		if err != nil {
			return err
		}
		next := before
		next.Policy = after
		comparison := analyzer.Compare(before, next, records, keep)
		switch out.value {
		case asJSON:
			err = printJSON(cmd.OutOrStdout(), comparison)
		case asYAML:
			err = printYAML(cmd.OutOrStdout(), comparison)
		default:
			err = printComparison(cmd.OutOrStdout(), comparison)
		}
		if err == nil && fail && comparison.Different > 0 {
			return errSilent
		}
		return err
	}
	return c
}

// policyOf is the policy in a file, or the built-in one.
func policyOf(file string) (analyzer.Policy, error) {
	if file == builtIn {
		return analyzer.BuiltinPolicy()
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return analyzer.Policy{}, usageError{err}
	}
	p, err := analyzer.ParsePolicy(data)
	if err != nil {
		return p, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

// recordedSince is what the streams hold, in order of time.
func recordedSince(ctx context.Context, b *bus.Bus, start time.Time) ([]analyzer.Recorded, error) {
	var all []analyzer.Recorded
	_, err := b.Read(ctx, []string{bus.Failures.Stream, bus.Results.Stream}, start, func(raw bus.Raw) error {
		if m, ok := recorded(raw.Data, raw.Time); ok {
			all = append(all, m)
		}
		return nil
	})
	slices.SortStableFunc(all, func(a, b analyzer.Recorded) int { return a.At.Compare(b.At) })
	return all, err
}

// recordedIn is what a file holds, in order of time.
func recordedIn(stdin io.Reader, file string) ([]analyzer.Recorded, error) {
	in := stdin
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, usageError{err}
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	const longest = 1 << 20 // above every stream's largest message
	lines := bufio.NewScanner(in)
	lines.Buffer(make([]byte, 0, 64<<10), longest)
	var all []analyzer.Recorded
	n := 0
	for lines.Scan() {
		n++
		text := bytes.TrimSpace(lines.Bytes())
		if len(text) == 0 {
			continue
		}
		var head struct {
			Time time.Time `json:"time"`
		}
		if err := json.Unmarshal(text, &head); err != nil {
			return nil, fmt.Errorf("%s line %d: not an event in JSON: %w", file, n, err)
		}
		if m, ok := recorded(text, head.Time); ok {
			all = append(all, m)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s line %d: %w", file, n+1, err)
	}
	slices.SortStableFunc(all, func(a, b analyzer.Recorded) int { return a.At.Compare(b.At) })
	return all, nil
}

// recorded is a stored event, unless it is neither a failure nor a result, or
// one that the analyzer would not have understood either.
func recorded(data []byte, at time.Time) (analyzer.Recorded, bool) {
	var head struct {
		Type string `json:"type"`
	}
	_ = json.Unmarshal(data, &head) // what cannot be read has no type
	switch head.Type {
	case heal.TypeFailureDetected, heal.TypeFailureResolved:
		e, err := heal.Decode[heal.Failure](data)
		e.Data.Envelope = heal.Envelope{ID: e.ID, Incident: e.CorrelationID}
		return analyzer.Recorded{At: at, Failure: &e.Data}, err == nil
	case heal.TypeActionCompleted:
		e, err := heal.Decode[heal.Result](data)
		return analyzer.Recorded{At: at, Result: &e.Data}, err == nil
	}
	return analyzer.Recorded{}, false
}

func printComparison(out io.Writer, c analyzer.Comparison) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if c.Failures == 0 {
		line("no failure was recorded in that time: there is nothing to compare")
	} else {
		line("%s and %s, %s to %s", counted(c.Failures, "announcement"), counted(c.Results, "recovery"), clock(c.From), clock(c.To))
	}
	line("before: %s %s", c.Before.Policy.Name, shortRevision(c.Before.Policy.Revision))
	line("after:  %s %s", c.After.Policy.Name, shortRevision(c.After.Policy.Revision))
	rows := [][2]string{}
	count := func(name string, before, after int) {
		change := ""
		if before != after {
			change = fmt.Sprintf("  (%+d)", after-before)
		}
		rows = append(rows, [2]string{name, fmt.Sprintf("%7d  %7d%s", before, after, change)})
	}
	rows = append(rows, [2]string{"DECISIONS", " BEFORE    AFTER"})
	count("that act", c.Before.Acting, c.After.Acting)
	for _, s := range heal.Strategies {
		if c.Before.Strategies[s]+c.After.Strategies[s] > 0 {
			count("strategy "+string(s), c.Before.Strategies[s], c.After.Strategies[s])
		}
	}
	reasons := maps.Clone(c.Before.Reasons)
	maps.Copy(reasons, c.After.Reasons)
	for _, reason := range slices.Sorted(maps.Keys(reasons)) {
		count("reason "+reason, c.Before.Reasons[reason], c.After.Reasons[reason])
	}
	line("")
	tabulate(&b, "  ", rows)
	line("")
	switch {
	case c.Different == 0:
		line("no decision differs")
	case len(c.Differences) < c.Different:
		line("%s differ; the first %d:", counted(c.Different, "decision"), len(c.Differences))
	case c.Different == 1:
		line("1 decision differs:")
	default:
		line("%d decisions differ:", c.Different)
	}
	for _, d := range c.Differences {
		line("")
		line("%s  %s %s, occurrence %d", clock(d.At), d.Failure, d.Reason, d.Occurrence)
		line("  - %s", outlined(d.Before))
		line("  + %s", outlined(d.After))
		for _, why := range d.Why {
			line("    %s", why)
		}
	}
	_, err := io.WriteString(out, inert(b.String()))
	return err
}

// outlined is an outline in one line.
func outlined(o analyzer.Outline) string {
	acts := "not carried out"
	if o.Acts {
		acts = "carried out"
		if o.Mode == heal.ModeApprove {
			acts = "carried out once a person agrees"
		}
	}
	return fmt.Sprintf("%s of %s, severity %s: %s (%s, by %s)", o.Strategy, o.Target, o.Severity, acts, o.Reason, o.Rule)
}
