package command

import (
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/table"
	"github.com/selfheal/selfheal/pkg/config"
)

func configCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "Look at the settings",
		Long:  "config is about the settings that the services read: a YAML file, a mounted ConfigMap\ndirectory, the environment and flags, of which a later one wins.",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(configViewCommand())
	return c
}

func configViewCommand() *cobra.Command {
	var o form
	var origin, changed bool
	var service string
	c := &cobra.Command{
		Use:   "view",
		Short: "Print the settings as a service started here would read them",
		Long: `view reads the settings as a service would that is started here with the same
flags and environment, and prints them. With --show-origin it says of each which
layer it came from, down to the line. Secrets print as ***.

A setting that a service would refuse is an error, exit code 2: so it also checks
a file before it is rolled out.`,
		Example: `  selfheal config view --show-origin
  selfheal config view --changed --config staging.yaml
  kubectl -n self-healing get configmap self-healing-settings -o json | jq '.data | map_values(select(startswith("/") | not))' > settings.yaml
  selfheal config view --config settings.yaml --show-origin`,
		Args: noArgs,
	}
	f := c.Flags()
	o.flag(c, asTable, asJSON, asYAML)
	f.BoolVar(&origin, "show-origin", false, "say where each setting comes from")
	f.BoolVar(&changed, "changed", false, "only those that are not at their default")
	f.StringVar(&service, "service", "", "as this service checks them: watcher, analyzer, actuator, notifier")
	f.String("config", "", "YAML `file` with settings")
	f.String("config-dir", "", "mounted ConfigMap, one file per key")
	rows := config.Rows()
	for _, r := range rows {
		if r.Switch {
			f.Bool(r.Flag, false, r.Help)
		} else {
			f.String(r.Flag, "", r.Help)
		}
	}
	c.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(); err != nil {
			return err
		}
		var args []string
		given := []string{"config", "config-dir"}
		for _, r := range rows {
			given = append(given, r.Flag)
		}
		for _, name := range given {
			if flag := f.Lookup(name); flag.Changed {
				args = append(args, "--"+name+"="+flag.Value.String())
			}
		}
		if service == "" {
			service = "selfheal"
		}
		_, origins, err := config.Load(config.Loader{Service: service, Args: args, Environ: os.Environ()})
		if err != nil {
			return err
		}
		all := origins.All()
		if changed {
			all = slices.DeleteFunc(all, func(s config.Origin) bool { return strings.HasPrefix(s.From, "default") })
		}
		return printSettings(cmd, o.value, all, origin)
	}
	return c
}

func printSettings(cmd *cobra.Command, form string, all []config.Origin, origin bool) error {
	out := cmd.OutOrStdout()
	if form == asTable {
		names := []string{"SETTING", "VALUE", "FROM"}
		if !origin {
			names = names[:2]
		}
		t := table.New(out, names...)
		var rows [][]string
		for _, s := range all {
			rows = append(rows, []string{s.Key, s.Value, s.From}[:len(names)])
		}
		return t.Write(rows...)
	}
	var v any = all
	if !origin {
		values := map[string]string{}
		for _, s := range all {
			values[s.Key] = s.Value
		}
		v = values
	}
	if form == asYAML {
		return printYAML(out, v)
	}
	return printJSON(out, v)
}
