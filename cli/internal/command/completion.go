package command

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/pkg/heal"
)

// shells are the shells that completions are written for.
var shells = []struct {
	name  string
	write func(*cobra.Command, io.Writer) error
}{
	{"bash", func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) }},
	{"zsh", func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) }},
	{"fish", func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) }},
}

func completionCommand() *cobra.Command {
	var names []string
	for _, s := range shells {
		names = append(names, s.name)
	}
	want := strings.Join(names, ", ")
	return &cobra.Command{
		Use:   "completion " + strings.Join(names, "|"),
		Short: "Print what lets a shell complete this command line",
		Long: `completion prints a script for your shell, which then completes verbs, flags and
their values.

For 'kubectl selfheal' put an executable of the name kubectl_complete-selfheal on
your PATH that says:
  #!/bin/sh
  exec selfheal __complete "$@"`,
		Example: `  source <(selfheal completion bash)
  selfheal completion zsh > "${fpath[1]}/_selfheal"
  selfheal completion fish > ~/.config/fish/completions/selfheal.fish`,
		ValidArgs: names,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageError{fmt.Errorf("which shell? One of %s", want)}
			case !slices.Contains(names, args[0]):
				return usageError{fmt.Errorf("shell %q: want one of %s", heal.Clean(args[0], 64), want)}
			case len(args) > 1:
				return usageError{fmt.Errorf("unexpected argument %q: one shell at a time", args[1])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return shells[slices.Index(names, args[0])].write(cmd.Root(), cmd.OutOrStdout())
		},
	}
}
