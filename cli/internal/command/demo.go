package command

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/selfheal/selfheal/cli/internal/demo"
	"github.com/selfheal/selfheal/cli/internal/lock"
	"github.com/selfheal/selfheal/cli/internal/screen"
)

func demoCommand() *cobra.Command {
	var keep, stop, plain, detached bool
	var dir string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show everything on a cluster of its own",
		Long: `demo starts a Kubernetes control plane with simulated nodes, NATS and the four
services on this machine, deploys a small shop, breaks it in several ways, and
shows live what is seen, decided, done and proven. It needs no Docker, no root
and no network; 'make demo' builds what it needs.

It ends with a table, and exit code 0 only if everything ended as it should.`,
		Args: noArgs,
	}
	f := c.Flags()
	f.BoolVar(&keep, "keep", false, "leave everything running, and say how to look around")
	f.BoolVar(&stop, "stop", false, "stop what an earlier --keep left running")
	f.BoolVar(&plain, "plain", false, "no colours, whatever the terminal can do")
	f.StringVar(&dir, "dir", demo.DefaultDir, "where logs and data go")
	f.BoolVar(&detached, "detached", false, "")
	if err := f.MarkHidden("detached"); err != nil {
		panic(err) // the flag is defined on the line above
	}

	c.RunE = func(cmd *cobra.Command, _ []string) error {
		dir, err := filepath.Abs(dir)
		if err != nil {
			return err
		}
		switch {
		case keep && stop:
			return usageError{errors.New("--keep and --stop: give one of them")}
		case stop:
			return stopDemo(cmd.Context(), dir)
		case keep && !detached:
			return keepDemo(cmd.Context())
		}
		self, err := os.Executable()
		if err != nil {
			return err
		}
		o := demo.Options{BinDir: filepath.Dir(self), DataDir: dir, ClusterDir: filepath.Join(dir, "cluster"), Keep: keep}
		if !f.Changed("dir") {
			// Where devcluster finds it by its name.
			if o.ClusterDir, err = filepath.Abs(filepath.Join(".dev", "clusters", demo.ClusterName)); err != nil {
				return err
			}
		}
		if detached {
			syscall.CloseOnExec(verdictFD) // it is not for our children
			o.Finished = handOver
		}
		err = demo.Run(cmd.Context(), o, screen.For(os.Stdout, plain))
		var inUse lock.InUseError
		if errors.As(err, &inUse) {
			return fmt.Errorf("a demo is running already (%w); `selfheal demo --stop` stops it", err)
		}
		return err
	}
	return c
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
