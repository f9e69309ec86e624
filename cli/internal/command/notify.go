package command

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/services/notifier"
)

func notifyCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "notify",
		Short: "Try the channels by which people are told, and see what they are told",
		Long: `notify tries the channels by which people are told, and shows what they are told.
Neither talks to NATS or to the cluster. The settings are read as the notifier reads
them: flags, environment, and the file that --config names.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(notifyTestCommand(), notifyRenderCommand())
	return c
}

// ofChannels reports whether a setting is about who is told.
func ofChannels(key string) bool {
	return slices.ContainsFunc([]string{"notif", "slack_", "email_", "pagerduty_", "webhook_", "alertmanager_", "shoutrrr_"}, func(p string) bool { return strings.HasPrefix(key, p) })
}

func notifyTestCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "test [CHANNEL]",
		Short: "Send a message that says it is a test to every place that is configured",
		Long: `test sends one message to every place of the channels that the settings configure,
and says which took it. The settings are read as the notifier reads them: flags,
environment, and the file that --config names. It rings: PagerDuty is sent an alert
of severity info that says it is a test; resolve it by hand.`,
		Example: `  selfheal notify test
  SLACK_BOT_TOKEN_FILE=token selfheal notify test slack`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("unexpected argument %q: one channel, or none for all", args[1])}
			}
			return nil
		},
	}
	settings := settingFlags(c, ofChannels)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := settings()
		if err != nil {
			return err
		}
		only := ""
		if len(args) == 1 {
			only = args[0]
		}
		trials, err := notifier.Try(cmd.Context(), s, only)
		if err != nil {
			return err
		}
		if len(trials) == 0 {
			return config.Invalid(errors.New("no such channel is configured"))
		}
		failed := false
		for _, t := range trials {
			said := "taken"
			if t.Err != nil {
				failed, said = true, t.Err.Error()
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%-14s%-24s%s\n", t.Channel, t.To, said); err != nil {
				return err
			}
		}
		if failed {
			return errSilent
		}
		return nil
	}
	return c
}

// settingFlags gives c the flags of the settings that are meant, and returns
// what reads them.
func settingFlags(c *cobra.Command, meant func(key string) bool) func() (config.Settings, error) {
	names := []string{"config"}
	c.Flags().String("config", "", "settings file")
	for _, r := range config.Rows() {
		if meant(r.Key) {
			c.Flags().String(r.Flag, "", r.Help)
			names = append(names, r.Flag)
		}
	}
	return func() (config.Settings, error) {
		var given []string
		for _, name := range names {
			if f := c.Flags().Lookup(name); f.Changed {
				given = append(given, "--"+name+"="+f.Value.String())
			}
		}
		s, _, err := config.Load(config.Loader{Service: notifier.Name, Args: given, Environ: os.Environ()})
		return s, err
	}
}

func notifyRenderCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:   "render [SAMPLE]",
		Short: "Show what people are told of a sample, or of a result in a file",
		Long: `render writes, as text, what people are told of a result: in the words of the
templates, and with the links, of the policy that notify_policy_file names. The
samples are: ` + strings.Join(notifier.Samples(), ", ") + `.`,
		Example: `  selfheal notify render failed
  selfheal notify render failed --notify-policy-file notify.yaml
  selfheal notify render --file result.json`,
	}
	settings := settingFlags(c, func(key string) bool { return key == "notify_policy_file" })
	c.Flags().StringVar(&file, "file", "", "JSON of a result, or of its event")
	c.RunE = func(cmd *cobra.Command, args []string) error {
		name, data := "healed", []byte(nil)
		switch {
		case len(args) > 1 || len(args) == 1 && file != "":
			return usageError{errors.New("want one sample, or --file")}
		case len(args) == 1:
			name = args[0]
		case file != "":
			var err error
			if data, err = os.ReadFile(file); err != nil {
				return usageError{err}
			}
		}
		s, err := settings()
		if err != nil {
			return err
		}
		text, err := notifier.Render(s, name, data)
		if errors.Is(err, config.ErrSettings) {
			return err
		}
		if err != nil {
			return usageError{err}
		}
		_, err = fmt.Fprint(cmd.OutOrStdout(), text)
		return err
	}
	return c
}
