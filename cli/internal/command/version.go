package command

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/pkg/daemon"
)

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version())
			return err
		},
	}
}

// version is one line, the same as the services' for the same build.
func version() string {
	release, revision := daemon.Version()
	return fmt.Sprintf("selfheal %s (%s, %s)", release, revision[:min(12, len(revision))], runtime.Version())
}
