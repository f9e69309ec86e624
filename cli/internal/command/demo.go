package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/demo"
	"github.com/selfheal/selfheal/cli/internal/lock"
	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/pkg/heal"
)

func demoCommand() *cobra.Command {
	var o demoOptions
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show everything on a cluster of its own",
		Long: `demo starts a Kubernetes control plane with simulated nodes, NATS and the four
services on this machine, deploys a small shop, breaks it in several ways, and
shows live what is seen, decided, done and proven. It needs no Docker, no root
and no network; 'make demo' builds what it needs.

It ends with a table, and exit code 0 only if everything ended as it should.`,
		Example: `  selfheal demo
  selfheal demo list
  selfheal demo run dying-node --keep
  selfheal demo --stop`,
		Args: noArgs,
	}
	o.flags(c)
	c.Flags().BoolVar(&o.stop, "stop", false, "stop what an earlier --keep left running")
	c.RunE = func(cmd *cobra.Command, _ []string) error { return o.run(cmd, "") }
	c.AddCommand(demoListCommand(), demoRunCommand())
	return c
}

func demoListCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the scenarios",
		Long:    "list names the scenarios in the order in which they are played, and says what is going to be seen.",
		Example: "  selfheal demo list",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, s := range demo.Scenarios() {
				if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%-16s %s\n%17s%s\n", s.ID, s.Name, "", screen.Wrap(s.Story, 96, 17, 0)); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func demoRunCommand() *cobra.Command {
	var o demoOptions
	var ids []string
	for _, s := range demo.Scenarios() {
		ids = append(ids, s.ID)
	}
	c := &cobra.Command{
		Use:   "run SCENARIO",
		Short: "Play one scenario",
		Long: `run is the demo with one scenario only. 'selfheal demo list' names them.

Exit code 0 only if it ended as it should.`,
		Example:   "  selfheal demo run crashing-pod",
		ValidArgs: ids,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageError{fmt.Errorf("which scenario? One of %s", strings.Join(ids, ", "))}
			case !slices.Contains(ids, args[0]):
				return usageError{fmt.Errorf("scenario %q is not known; want one of %s", heal.Clean(args[0], 64), strings.Join(ids, ", "))}
			case len(args) > 1:
				return usageError{fmt.Errorf("unexpected argument %q: one scenario at a time", args[1])}
			}
			return nil
		},
	}
	o.flags(c)
	c.RunE = func(cmd *cobra.Command, args []string) error { return o.run(cmd, args[0]) }
	return c
}

// demoOptions are the flags of the demo.
type demoOptions struct {
	keep, stop, plain, detached bool
	dir                         string
}

func (o *demoOptions) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&o.keep, "keep", false, "leave everything running, and say how to look around")
	f.BoolVar(&o.plain, "plain", false, "no colours, whatever the terminal can do")
	f.StringVar(&o.dir, "dir", demo.DefaultDir, "where logs and data go")
	f.BoolVar(&o.detached, "detached", false, "")
	if err := f.MarkHidden("detached"); err != nil {
		panic(err) // the flag is defined on the line above
	}
}

// run plays all scenarios, or only one.
func (o *demoOptions) run(cmd *cobra.Command, only string) error {
	dir, err := filepath.Abs(o.dir)
	if err != nil {
		return err
	}
	switch {
	case o.keep && o.stop:
		return usageError{errors.New("--keep and --stop: give one of them")}
	case o.stop:
		return stopDemo(cmd.Context(), dir)
	case o.keep && !o.detached:
		return keepDemo(cmd.Context())
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	options := demo.Options{BinDir: filepath.Dir(self), DataDir: dir, ClusterDir: filepath.Join(dir, "cluster"), Only: only, Keep: o.keep}
	if !cmd.Flags().Changed("dir") {
		// Where devcluster finds it by its name.
		if options.ClusterDir, err = filepath.Abs(filepath.Join(".dev", "clusters", demo.ClusterName)); err != nil {
			return err
		}
	}
	if o.detached {
		syscall.CloseOnExec(verdictFD) // it is not for our children
		options.Finished = handOver
	}
	err = demo.Run(cmd.Context(), options, screen.For(os.Stdout, o.plain))
	var inUse lock.InUseError
	if errors.As(err, &inUse) {
		return fmt.Errorf("a demo is running already (%w); `selfheal demo --stop` stops it", err)
	}
	return err
}

// With --keep the demo runs in a process of a session of its own, which draws
// on our terminal and goes on without us. File descriptor 3 takes its verdict.
const verdictFD = 3

func keepDemo(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	// Not killed with ctx: it is asked to end, below, and needs time for it.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), self, append(os.Args[1:], "--detached")...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{w}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, w.Close())
	}
	if err := w.Close(); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })()
	verdict, _ := bufio.NewReader(r).ReadString('\n')
	switch strings.TrimSpace(verdict) {
	case "right":
		return nil
	case "":
		_ = cmd.Wait() // it has said why it ended
		return errSilent
	}
	return demo.ErrNotRight
}

// handOver gives the verdict to the process that waits for it, and the
// terminal back.
func handOver(ok bool) {
	verdict := "right"
	if !ok {
		verdict = "wrong"
	}
	// Nobody is left to be told of an error.
	_ = demo.Silence()
	out := os.NewFile(verdictFD, "verdict")
	_, _ = fmt.Fprintln(out, verdict)
	_ = out.Close()
}

// stopDemo ends the demo that holds dir.
func stopDemo(ctx context.Context, dir string) error {
	pid := lock.Holder(dir)
	if pid == 0 {
		fmt.Println("no demo is running")
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop process %d: %w", pid, err)
	}
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("process %d did not stop within %s", pid, patience))
	defer cancel()
	for lock.Holder(dir) != 0 {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
	fmt.Println("the demo has stopped")
	return nil
}
