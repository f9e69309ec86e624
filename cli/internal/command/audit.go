package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/record"
	"github.com/selfheal/selfheal/cli/internal/table"
	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// auditColumns are the same in a table and in a spreadsheet.
var auditColumns = []string{"TIME", "WHAT", "INCIDENT", "OBJECT", "STRATEGY", "MODE", "OUTCOME", "REASON", "BY", "TEXT"}

func auditCommand() *cobra.Command {
	a := auditor{}
	c := &cobra.Command{
		Use:   "audit",
		Short: "Print what was seen, decided, answered and done, from the audit stream",
		Long: `audit prints the audit stream: every failure, decision, approval, pause and
result of the last 90 days, in the order in which they were stored. No client can
take a message out of it; docs/audit.md shows how to read it with nothing but the
nats command line.

  -o ndjson  each message as it was stored, one on a line
  -o json    the same as one list
  -o csv     for spreadsheets, with the columns of the table

BY is who decided: the rule of the policy for a decision, a person for an approval
or a pause.
` + operatorHelp,
		Example: `  selfheal audit --since 2h
  selfheal audit --since 2026-11-22T12:00:00Z -o csv > incident.csv
  selfheal audit --since 90d -o ndjson | jq -r 'select(.type == "dev.selfheal.action.completed.v1") | .data.outcome' | sort | uniq -c
  selfheal audit --incident i-2b5nk1hr4tp6k3v9q0e8c7ma
  selfheal audit --follow   # until Ctrl-C`,
		Args: noArgs,
	}
	a.flags(c)
	a.form.flag(c, asTable, asJSON, asNDJSON, asCSV)
	a.since.flag(c, "24h", "how far back to look")
	f := c.Flags()
	f.StringVarP(&a.namespace, "namespace", "n", "", "only what concerns objects of this namespace")
	f.StringVar(&a.incident, "incident", "", "only what belongs to the incident of this `id`")
	f.BoolVarP(&a.follow, "follow", "f", false, "go on with what comes, until interrupted")
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := a.form.check(); err != nil {
			return err
		}
		if a.follow && a.form.value == asJSON {
			return usageError{fmt.Errorf("-o json --follow: a list that never ends is not JSON; want -o ndjson")}
		}
		from, err := a.since.from(time.Now())
		if err != nil {
			return err
		}
		return a.connected(cmd, func(ctx context.Context) error { return a.run(ctx, cmd.Context(), cmd.OutOrStdout(), from) })
	}
	return c
}

// An auditor is one call of audit.
type auditor struct {
	reader
	form      form
	since     since
	namespace string
	incident  string
	follow    bool
}

func (a *auditor) run(ctx, lasting context.Context, out io.Writer, from time.Time) error {
	print, end, err := a.printer(out)
	if err != nil {
		return err
	}
	var held []entry
	incidents := map[string]string{} // by decision
	keep := func(raw bus.Raw) {
		e := entryOf(raw)
		if e.incident == "" {
			e.incident = incidents[e.decision]
		} else if e.decision != "" {
			incidents[e.decision] = e.incident
		}
		if (a.namespace == "" || e.namespace == a.namespace) && (a.incident == "" || e.incident == a.incident) {
			held = append(held, e)
		}
	}
	flush := func() error {
		now := held
		held = nil
		return print(now)
	}
	// As much as is stored may take longer than a person waits for NATS.
	stored, stop := context.WithCancel(lasting)
	defer stop()
	mark, err := a.bus.Read(stored, bus.Audit, from, func(raw bus.Raw) error {
		keep(raw)
		if len(held) < 1000 {
			return nil
		}
		return flush()
	})
	if err != nil {
		return err
	}
	if err := flush(); err != nil {
		return err
	}
	if !a.follow {
		return end()
	}
	return follow(lasting, a.bus, mark, keep, flush)
}

// printer returns what prints entries, and what ends that.
func (a *auditor) printer(out io.Writer) (print func([]entry) error, end func() error, err error) {
	nothing := func() error { return nil }
	rows := func(entries []entry) (all [][]string) {
		for _, e := range entries {
			all = append(all, e.row())
		}
		return all
	}
	switch a.form.value {
	case asCSV:
		var names []string
		for _, c := range auditColumns {
			names = append(names, strings.ToLower(c))
		}
		w, err := table.NewCSV(out, names...)
		if err != nil {
			return nil, nil, err
		}
		return func(entries []entry) error { return w.Write(rows(entries)...) }, nothing, nil
	case asNDJSON:
		return func(entries []entry) error {
			for _, e := range entries {
				if _, err := out.Write(append(e.line(), '\n')); err != nil {
					return err
				}
			}
			return nil
		}, nothing, nil
	case asJSON:
		all := []json.RawMessage{}
		return func(entries []entry) error {
			for _, e := range entries {
				all = append(all, e.line())
			}
			return nil
		}, func() error { return printJSON(out, map[string]any{"items": all}) }, nil
	}
	w := table.New(out, auditColumns...)
	any := false
	return func(entries []entry) error {
			any = any || len(entries) > 0
			return w.Write(rows(entries)...)
		}, func() error {
			if any {
				return nil
			}
			_, err := fmt.Fprintf(out, "nothing is on record for cluster %s\n", a.bus.Cluster())
			return err
		}, nil
}

// An entry is a message of the audit stream, as a row.
type entry struct {
	raw       bus.Raw
	time      time.Time
	what      string
	incident  string
	decision  string
	namespace string
	object    string
	strategy  heal.Strategy
	mode      heal.Mode
	outcome   string
	reason    string
	by        string
	text      string
}

func (e entry) row() []string {
	return []string{clock(e.time), e.what, e.incident, e.object, string(e.strategy), string(e.mode), e.outcome, e.reason, heal.Clean(e.by, 64), heal.Clean(e.text, heal.MaxText)}
}

// line is the message as it was stored, on one line.
func (e entry) line() []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, e.raw.Data); err == nil {
		return b.Bytes()
	}
	text, _ := json.Marshal(map[string]any{"subject": e.raw.Subject, "sequence": e.raw.Seq, "unreadable": e.raw.Data}) // of such types it always can
	return text
}

// entryOf reads a message. One that cannot be read is an entry as well.
func entryOf(raw bus.Raw) entry {
	e := entry{raw: raw, time: raw.Time, what: "unreadable", text: raw.Subject}
	switch record.TypeOf(raw) {
	case heal.TypeFailureDetected, heal.TypeFailureResolved:
		read(&e, func(m heal.Event[heal.Failure]) {
			f := m.Data
			e.what, e.reason, e.text = "failure", f.Reason, f.Description
			if f.Resolved() {
				e.what = "resolved"
			}
			e.about(f.Target)
		})
	case heal.TypeDecisionMade:
		read(&e, func(m heal.Event[heal.Decision]) {
			d := m.Data
			e.what, e.strategy, e.reason, e.by, e.text = "decision", d.Strategy, d.Reason, d.Policy.Rule, d.Explanation.Summary
			e.mode, e.decision = d.Mode, d.ID
			e.about(d.Target)
		})
	case heal.TypeActionCompleted:
		read(&e, func(m heal.Event[heal.Result]) {
			r := m.Data
			e.what, e.strategy, e.outcome, e.reason, e.text = "result", r.Decision.Strategy, string(r.Outcome), r.Reason, r.Message
			e.about(r.Decision.Target)
		})
	case heal.TypeApprovalGiven:
		read(&e, func(m heal.Event[heal.Approval]) {
			e.what, e.by, e.decision, e.text = "approval", m.Data.By, m.Data.DecisionID, m.Data.DecisionID+": "+m.Data.Reason
			if !m.Data.Approved {
				e.what = "rejection"
			}
			e.text = strings.TrimSuffix(e.text, ": ")
		})
	case heal.TypeControlChanged:
		read(&e, func(m heal.Event[heal.Control]) { e.what, e.by, e.text = m.Data.Verb, m.Data.By, m.Data.Reason })
	}
	return e
}

func read[T heal.Payload](e *entry, set func(heal.Event[T])) {
	m, err := heal.Decode[T](e.raw.Data)
	if err != nil {
		e.text += ": " + err.Error()
		return
	}
	e.time, e.incident = m.Time, m.CorrelationID
	set(m)
}

func (e *entry) about(t heal.Target) { e.namespace, e.object = t.Namespace, t.String() }
