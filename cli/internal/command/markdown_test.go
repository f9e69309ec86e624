package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// remarks are for the test of the page (test/guide), which carries out the
// examples: why one is not tried, or what it ends with.
var remarks = map[string]string{
	`selfheal completion zsh > "${fpath[1]}/_selfheal"`: "not tried: it needs zsh",
	"selfheal demo":                                     "not tried: all scenarios together take minutes; one is played below",
	"selfheal demo run dying-node --keep":               "not tried: the one below is",
	"selfheal provision streams --nats-nkey admin.seed": "not tried: it needs a server with accounts; the chart's tests do it",
	"selfheal provision streams --nats-url tls://nats.example.com --nats-creds admin.creds --replicas 3": "not tried: nor that one",
	"selfheal provision test --nats-nkey operator.seed --watcher-nkey watcher.seed":                      "not tried: it needs the chart's keys, with which its tests do it",
	"selfheal policy diff policy.yaml candidate.yaml":                                                    "exit code 1: they differ",
	"selfheal policy diff built-in policy.yaml":                                                          "exit code 1: they differ",
}

// examples are those of a command, with their remarks.
func examples(c *cobra.Command) string {
	lines := strings.Split(unindent(c.Example), "\n")
	for i, line := range lines {
		if r := remarks[line]; r != "" {
			lines[i] = line + "   # " + r
		}
	}
	return code("sh", strings.Join(lines, "\n"))
}

// walk calls fn with c and every command below it that help shows.
func walk(c *cobra.Command, fn func(*cobra.Command)) {
	fn(c)
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			walk(sub, fn)
		}
	}
}

// markdown is the documentation of the command line, with a picture of the
// live view in text.
func markdown(live string) string {
	var b strings.Builder
	root := newRoot()
	fmt.Fprintf(&b, "# The command line\n\nWritten from the commands' own `--help` by their test; do not edit.\n\n%s\n\n", code("", root.Long))
	b.WriteString("| command | |\n|---|---|\n")
	walk(root, func(c *cobra.Command) {
		if c != root {
			name := strings.TrimPrefix(c.CommandPath(), "selfheal ")
			fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", name, strings.ReplaceAll(c.CommandPath(), " ", "-"), c.Short)
		}
	})
	walk(root, func(c *cobra.Command) {
		if c == root {
			return
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s\n\n", c.CommandPath(), code("", strings.TrimSpace(c.Long+"\n\n"+c.UseLine())))
		if c.Example != "" {
			fmt.Fprintf(&b, "%s\n\n", examples(c))
		}
		if c.Name() == "watch" {
			fmt.Fprintf(&b, "In a terminal of 100 columns:\n\n%s\n\n", code("", live))
		}
		var rows []string
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" {
				rows = append(rows, flagRow(f))
			}
		})
		if len(rows) > 0 {
			fmt.Fprintf(&b, "| flag | default | |\n|---|---|---|\n%s\n", strings.Join(rows, "\n"))
		}
	})
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func flagRow(f *pflag.Flag) string {
	name := "`--" + f.Name + "`"
	if f.Shorthand != "" {
		name = "`-" + f.Shorthand + "`, " + name
	}
	help := strings.NewReplacer("`", "", "|", `\|`, "\n", " ").Replace(f.Usage)
	def := f.DefValue
	if def != "" && def != "false" && def != "[]" {
		def = "`" + def + "`"
	} else {
		def = ""
	}
	return fmt.Sprintf("| %s | %s | %s |", name, def, help)
}

func code(lang, text string) string {
	return "```" + lang + "\n" + strings.TrimRight(text, "\n") + "\n```"
}

// unindent takes away the two columns that help puts before examples.
func unindent(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = strings.TrimPrefix(l, "  ")
	}
	return strings.Join(lines, "\n")
}
