package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

func explainCommand() *cobra.Command {
	var r reader
	var out form
	var namespace, whyNot string
	c := &cobra.Command{
		Use:   "explain KIND/NAME | INCIDENT",
		Short: "Say what is wrong with an object, what was done, and what would be done now",
		Long: `explain asks the analyzer what it knows of an object or an incident: what fails and
since when, what that follows from and what follows from it, the cause and its
evidence, what was decided and what came of it, what would be decided if it was
announced now and why nothing else, and when it is looked at again. Nothing is
changed by asking.

KIND is as for kubectl: pod, deploy, sts, ds, svc, node, job, pvc and so on. A pod
is explained with its owner, whose pods have their memory together.
` + operatorHelp,
		Example: `  selfheal explain deploy/checkout -n shop
  selfheal explain node/n1 --why-not drain_and_replace
  selfheal explain i-2b5nk1hr4tp6k3v9q0e8c7ma
  selfheal explain pod/checkout-7d9f6c-x2kpl -n shop -o json | jq .troubles[0].now.guards`,
	}
	r.flags(c)
	out.flag(c, asTable, asJSON, asYAML)
	f := c.Flags()
	f.StringVarP(&namespace, "namespace", "n", "default", "of the object")
	f.StringVar(&whyNot, "why-not", "", "say also why this `strategy` is not what is done")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := out.check(); err != nil {
			return err
		}
		q, err := inquiry(args, namespace)
		if err != nil {
			return err
		}
		q.WhyNot = heal.Strategy(whyNot)
		if err := q.Validate(); err != nil {
			return usageError{err}
		}
		return r.connected(cmd, func(ctx context.Context) error {
			in, err := bus.Ask[heal.Insight](ctx, r.bus, "analyzer", "explain", q)
			if err != nil {
				return err
			}
			switch out.value {
			case asJSON:
				return printJSON(cmd.OutOrStdout(), in)
			case asYAML:
				return printYAML(cmd.OutOrStdout(), in)
			}
			return printInsight(cmd.OutOrStdout(), in)
		})
	}
	return c
}

// inquiry is what the arguments ask about.
func inquiry(args []string, namespace string) (heal.Inquiry, error) {
	switch {
	case len(args) == 0:
		return heal.Inquiry{}, usageError{errors.New("explain what? Give KIND/NAME, or the id of an incident; `selfheal get incidents` lists them")}
	case len(args) > 2:
		return heal.Inquiry{}, usageError{fmt.Errorf("unexpected argument %q: one object at a time", args[2])}
	case len(args) == 1 && strings.HasPrefix(args[0], "i-") && !strings.Contains(args[0], "/"):
		return heal.Inquiry{Incident: args[0]}, nil
	}
	kind, name, ok := strings.Cut(strings.Join(args, "/"), "/")
	if !ok || kind == "" || name == "" || strings.Contains(name, "/") {
		return heal.Inquiry{}, usageError{fmt.Errorf("%q is neither KIND/NAME nor the id of an incident (i-…)", heal.Clean(strings.Join(args, " "), 64))}
	}
	q := heal.Inquiry{Kind: kindOf(kind), Namespace: namespace, Name: name}
	if slices.Contains(clusterWide, q.Kind) {
		q.Namespace = ""
	}
	return q, nil
}

var clusterWide = []string{"Node", "Namespace", "PersistentVolume", "StorageClass", "APIService", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"}

// kindOf is a kind as kubectl takes it, singular, plural or short.
func kindOf(text string) string {
	lower := strings.ToLower(text)
	for kind, short := range map[string]string{
		"Pod": "po", "Deployment": "deploy", "StatefulSet": "sts", "DaemonSet": "ds", "ReplicaSet": "rs", "Service": "svc", "Node": "no",
		"Namespace": "ns", "Job": "", "CronJob": "cj", "PersistentVolumeClaim": "pvc", "PersistentVolume": "pv", "HorizontalPodAutoscaler": "hpa",
		"PodDisruptionBudget": "pdb", "ResourceQuota": "quota", "APIService": "", "StorageClass": "sc",
		"MutatingWebhookConfiguration": "", "ValidatingWebhookConfiguration": "",
	} {
		if name := strings.ToLower(kind); lower == name || lower == name+"s" || short != "" && lower == short || strings.HasSuffix(name, "class") && lower == name+"es" {
			return kind
		}
	}
	return text
}

// printInsight is for somebody who was woken.
func printInsight(out io.Writer, in heal.Insight) error {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s", in.Summary)
	if !in.Clear {
		line("Nothing is done just now, whatever it is: %s.", in.Sight)
	}
	for _, t := range in.Troubles {
		line("")
		line("%s: %s (%s)", t.Object, t.Reason, t.Type)
		var fields [][2]string
		field := func(name, format string, args ...any) {
			fields = append(fields, [2]string{name, fmt.Sprintf(format, args...)})
		}
		field("incident", "%s, since %s", t.Incident, clock(t.Since))
		field("failing", "%s, %s like it within the window", counted(t.Open, "episode"), counted(t.Similar, "failure"))
		if t.Last != nil && t.Last.Description != "" {
			field("last seen", "%s (%s)", t.Last.Description, clock(t.Last.Timestamp.Time))
		}
		if t.Root != nil {
			field("follows from", "%s (%s, incident %s): %s", t.Root.Object, t.Root.Reason, t.Root.Incident, t.Root.Why)
		}
		if t.Cause.Kind == heal.CauseUnknown {
			field("cause", "unknown")
		} else {
			field("cause", "%s, %.0f %% sure: %s", t.Cause.Kind, 100*t.Cause.Confidence, strings.Join(t.Cause.Evidence, "; "))
		}
		if t.Waits != "" {
			field("waits for", "%s", t.Waits)
		}
		if t.FailedTries > 0 {
			field("failed", "%s in a row", counted(t.FailedTries, "try"))
		}
		if t.UnderWay != nil {
			field("under way", "%s by decision %s, until %s at the latest", t.UnderWay.Strategy, t.UnderWay.DecisionID, clock(t.UnderWay.Until))
		}
		if t.NextLook.IsZero() {
			field("next look", "%s", t.NextWhy)
		} else {
			field("next look", "%s: %s", clock(t.NextLook), t.NextWhy)
		}
		if t.WhyNot != "" {
			field("why not "+string(in.Inquiry.WhyNot), "%s", t.WhyNot)
		}
		tabulate(&b, "  ", fields)
		if len(t.Course) > 0 {
			line("")
			line("  so far")
			var rows [][2]string
			for _, d := range t.Course {
				rows = append(rows, [2]string{clock(d.At), deed(d)})
			}
			tabulate(&b, "    ", rows)
		}
		if t.Now != nil {
			line("")
			line("  if it was announced now")
			line("    %s", t.Now.Explanation.Summary)
			for _, step := range t.Now.Explanation.Steps {
				line("    - %s", step)
			}
			line("")
			line("  why this, and nothing else")
			var rows [][2]string
			for _, r := range t.Ladder {
				mark := "  "
				if r.Chosen {
					mark = "* "
				}
				rows = append(rows, [2]string{mark + string(r.Strategy), r.Why})
			}
			tabulate(&b, "    ", rows)
			line("")
			line("  guards")
			rows = nil
			for _, v := range t.Now.Guards {
				mark := "ok "
				if !v.Allowed {
					mark = "NO "
				}
				rows = append(rows, [2]string{mark + v.Name, v.Detail})
			}
			tabulate(&b, "    ", rows)
		}
		if len(t.Tried) > 0 {
			line("")
			line("  tried against this cause (what is old counts less)")
			var rows [][2]string
			for _, try := range t.Tried {
				rows = append(rows, [2]string{string(try.Strategy), fmt.Sprintf("helped %.1f, failed %.1f times", try.Helped, try.Failed)})
			}
			tabulate(&b, "    ", rows)
		}
	}
	if len(in.Followers) > 0 {
		line("")
		line("what follows from it, and is left alone")
		var rows [][2]string
		for _, f := range in.Followers {
			rows = append(rows, [2]string{f.Object, fmt.Sprintf("%s since %s", f.Reason, clock(f.Since))})
		}
		tabulate(&b, "  ", rows)
	}
	line("")
	line("as of %s; policy %s %s, mode %s; %s", clock(in.At), in.Policy.Name, shortRevision(in.Policy.Revision), in.Mode, in.Sight)
	// All of it is of the analyzer's making, or was cleaned by it; but who
	// answers is only known by the right to answer.
	_, err := io.WriteString(out, inert(b.String()))
	return err
}

// inert is text without anything that a terminal would obey.
func inert(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = heal.Clean(lines[i], 4096)
	}
	return strings.Join(lines, "\n")
}

// tabulate writes rows of two columns, each beginning with a margin.
func tabulate(b *strings.Builder, margin string, rows [][2]string) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(w, "%s%s\t%s\n", margin, heal.Clean(r[0], 256), heal.Clean(r[1], 2048))
	}
	_ = w.Flush() // into memory
}

// deed is a decision and what came of it in a sentence.
func deed(d heal.Deed) string {
	text := fmt.Sprintf("%s (%s, %s)", d.Strategy, d.Severity, d.Reason)
	if d.Times > 1 {
		text += fmt.Sprintf(", decided %d times", d.Times)
	}
	switch {
	case d.Outcome != "":
		text += fmt.Sprintf(": %s, %s", d.Outcome, d.Result)
		if d.Message != "" {
			text += ": " + d.Message
		}
	case d.Acts:
		text += ": no result yet"
	case d.Strategy != heal.Monitor:
		text += ": not carried out"
	}
	return text
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if strings.HasSuffix(what, "y") {
		return fmt.Sprintf("%d %sies", n, strings.TrimSuffix(what, "y"))
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func shortRevision(revision string) string { return revision[:min(len(revision), len("sha256:")+12)] }
