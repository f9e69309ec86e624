// Package command is the command line. Each command is one file with one
// function that makes it, and one line in the list below.
package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/pkg/config"
)

// commands is every command, in the order of the help.
var commands = []func() *cobra.Command{
	demoCommand,
	upCommand,
	statusCommand,
	watchCommand,
	getCommand,
	explainCommand,
	reportCommand,
	auditCommand,
	approveCommand,
	rejectCommand,
	pauseCommand,
	resumeCommand,
	undoCommand,
	silenceCommand,
	notifyCommand,
	policyCommand,
	simulateCommand,
	doctorCommand,
	dlqCommand,
	configCommand,
	keysCommand,
	provisionCommand,
	completionCommand,
	versionCommand,
}

// The exit codes of every command.
const (
	exitOK     = 0
	exitFailed = 1 // it was tried, and did not work out
	exitUsage  = 2 // it was called wrongly, or the settings are wrong; nothing was tried
)

// A usageError is the caller's mistake.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// errSilent ends with exitFailed when everything has been said already.
var errSilent = errors.New("failed")

// plugin is the name under which kubectl finds this as its plugin
// (https://kubernetes.io/docs/tasks/extend-kubectl/kubectl-plugins).
const plugin = "kubectl-selfheal"

// Main runs the command line and returns the exit code. Commands are told to
// stop by SIGINT and SIGTERM; a second signal ends the process at once.
func Main(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)

	root := newRoot()
	if filepath.Base(os.Args[0]) == plugin { // kubectl calls it so
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl selfheal"}
	}
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSilent):
		return exitFailed
	case errors.Is(err, config.ErrSettings):
		fmt.Fprintf(os.Stderr, "selfheal: %v\n", err)
		return exitUsage
	case errors.As(err, &usage):
		fmt.Fprintf(os.Stderr, "selfheal: %v\nSee '%s --help'.\n", err, c.CommandPath())
		return exitUsage
	}
	fmt.Fprintf(os.Stderr, "selfheal: %v\n", err)
	return exitFailed
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "selfheal",
		Short: "Sees what is broken in a Kubernetes cluster, decides, heals, proves it and tells",
		Long: `selfheal sees what is broken in a Kubernetes cluster, decides what to do by rules
that you can read, does it within limits, proves that it helped, and tells.

  selfheal demo   shows all of it on a cluster of its own, in three minutes
  selfheal up     runs it against your cluster; it only watches unless you say more

Exit codes of every command: 0 it worked; 1 it was tried and did not work, or a
look found something that cannot work; 2 it was called wrongly, or the settings are
wrong, and nothing was tried.

Without a terminal, with --plain where there is that flag, and with NO_COLOR set,
the output is plain text. As kubectl-selfheal on your PATH it is 'kubectl selfheal'.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.CompletionOptions.HiddenDefaultCmd = true
	for _, c := range commands {
		root.AddCommand(c())
	}
	return root
}

// noArgs refuses arguments; on the root command that is an unknown command.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return usageError{fmt.Errorf("unexpected argument %q", args[0])}
	}
	text := fmt.Sprintf("unknown command %q", args[0])
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		text += fmt.Sprintf("; did you mean %q?", near[0])
	}
	return usageError{errors.New(text)}
}
