package command

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// The forms that commands print in.
const (
	asTable  = "table"
	asJSON   = "json"
	asYAML   = "yaml"
	asNDJSON = "ndjson"
	asCSV    = "csv"
)

// A form is the flag -o, limited to what the command knows.
type form struct {
	value string
	known []string
}

// flag adds -o to c, with the first of the known forms as the default.
func (o *form) flag(c *cobra.Command, known ...string) {
	o.known = known
	c.Flags().StringVarP(&o.value, "output", "o", known[0], "form of the output: "+strings.Join(known, ", "))
	_ = c.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(known, cobra.ShellCompDirectiveNoFileComp)) // fails only for an unknown flag
}

func (o *form) check() error {
	if !slices.Contains(o.known, o.value) {
		return usageError{fmt.Errorf("-o %q: want one of %s", o.value, strings.Join(o.known, ", "))}
	}
	return nil
}

// printJSON prints a value for people who pipe it into jq.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

func printYAML(w io.Writer, v any) error {
	text, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// printLine prints a value as one line of JSON.
func printLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// clock is a moment as tables show it: to be read by people of all time zones,
// and to be pasted into --since.
func clock(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

// A since is how far back to look: a span, or a moment.
type since struct{ text string }

func (s *since) flag(c *cobra.Command, def, help string) {
	c.Flags().StringVar(&s.text, "since", def, help+": a span such as 90m, 24h or 7d, or a time such as 2026-11-22T12:00:00Z")
}

// from is the moment from which on to look.
func (s *since) from(now time.Time) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s.text); err == nil {
		return t, nil
	}
	if days, found := strings.CutSuffix(s.text, "d"); found {
		var n int
		if _, err := fmt.Sscanf(days+";", "%d;", &n); err == nil && n > 0 {
			return now.AddDate(0, 0, -n), nil
		}
	}
	if d, err := time.ParseDuration(s.text); err == nil && d > 0 {
		return now.Add(-d), nil
	}
	return time.Time{}, usageError{fmt.Errorf("--since %q: want a span such as 90m, 24h or 7d, or a time such as 2026-11-22T12:00:00Z", s.text)}
}
