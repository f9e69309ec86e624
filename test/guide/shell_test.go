package guide

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long a command may take, on a busy machine.
const patience = 90 * time.Second

// A shell is a session of bash, in which one command of a page follows the
// other: what is exported stays, what runs in the background goes on.
type shell struct {
	t     *testing.T
	dir   string
	env   []string
	cmd   *exec.Cmd
	in    io.Writer
	lines <-chan string
}

// open starts a session that ends, with all that it has started, with the test.
func open(t *testing.T, dir string, env []string) *shell {
	t.Helper()
	s := &shell{t: t, dir: dir, env: env, cmd: exec.Command("bash", "--norc", "--noprofile")}
	s.cmd.Dir, s.cmd.Env = dir, env
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := s.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	s.in, s.cmd.Stdout, s.cmd.Stderr = in, w, w
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close() // bash has its own
	lines := make(chan string, 1024)
	go func() {
		defer close(lines)
		for r := bufio.NewReader(out); ; {
			line, err := r.ReadString('\n')
			if line != "" {
				lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	s.lines = lines
	t.Cleanup(func() {
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGTERM)
		_ = in.Close()
		ended := make(chan struct{})
		go func() {
			for range lines { // until nobody holds the other end
			}
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
			<-ended
		}
		_ = s.cmd.Wait() // it was told to end
		_ = out.Close()
	})
	if said, code := s.run("set -o pipefail"); code != 0 {
		t.Fatalf("bash: %s", said)
	}
	return s
}

// mark ends what a command says, with its exit code.
const mark = "\x01ended"

// run runs a command and returns what it said and its exit code.
func (s *shell) run(text string) (said string, code int) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, ".command"), []byte(text+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if _, err := fmt.Fprintf(s.in, ". ./.command </dev/null 2>&1\nprintf '\\n%s %%d\\n' $?\n", mark); err != nil {
		s.t.Fatalf("%s: %v", text, err)
	}
	var all strings.Builder
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		select {
		case line, ok := <-s.lines:
			if !ok {
				s.t.Fatalf("the shell ended at %q:\n%s", text, all.String())
			}
			if _, err := fmt.Sscanf(line, mark+" %d\n", &code); err == nil {
				return strings.TrimSuffix(all.String(), "\n"), code
			}
			all.WriteString(line)
		case <-late.C:
			s.t.Fatalf("it took longer than %s: %s\n%s", patience, text, all.String())
		}
	}
}

// A turn is what a person types once a terminal shows something.
type turn struct {
	shows *regexp.Regexp // since the last turn
	type_ string
}

// ctrlC is the key, as a terminal sends it.
const ctrlC = "\x03"

// drive runs a command in a terminal of its own, and types. It returns what was
// on the terminal, and an error if the command did not end well after the last
// turn, or as a program ends that is interrupted.
func (s *shell) drive(text string, turns ...turn) (string, error) {
	s.t.Helper()
	if said, code := s.run("declare -px > .environment"); code != 0 {
		s.t.Fatalf("declare: %s", said)
	}
	ours, theirs, err := terminal(100, 30)
	if err != nil {
		return "", err
	}
	defer ours.Close()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "--norc", "--noprofile", "-c", ". ./.environment\n"+text)
	cmd.Dir, cmd.Env = s.dir, append(s.env, "TERM=xterm-256color")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, theirs, theirs
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	err = cmd.Start()
	_ = theirs.Close() // the command has its own
	if err != nil {
		return "", err
	}
	var shown []byte
	since := 0
	buf := make([]byte, 1<<16)
	for { // until nobody holds the other end, or the time is over and the command was killed
		n, err := ours.Read(buf)
		shown = append(shown, buf[:n]...)
		for len(turns) > 0 && turns[0].shows.Match(shown[since:]) {
			if _, err := io.WriteString(ours, turns[0].type_); err != nil {
				return string(shown), err
			}
			since, turns = len(shown), turns[1:]
		}
		if err != nil {
			break
		}
	}
	ended := cmd.Wait()
	exit := new(exec.ExitError)
	switch {
	case len(turns) > 0:
		return string(shown), fmt.Errorf("it never showed %q: %w", turns[0].shows, errors.Join(ctx.Err(), ended))
	case errors.As(ended, &exit) && (exit.ExitCode() == 130 || exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGINT): // as a shell, or a program, ends by Ctrl-C
		return string(shown), nil
	}
	return string(shown), ended
}

// terminal is a pseudo terminal of that size: our end and that of a program
// (https://man7.org/linux/man-pages/man4/pts.4.html).
func terminal(columns, rows uint16) (ours, theirs *os.File, err error) {
	ours, err = os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	fd := int(ours.Fd())
	if err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err == nil {
		var n uint32
		if n, err = unix.IoctlGetUint32(fd, unix.TIOCGPTN); err == nil {
			theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
		}
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	}
	if err != nil {
		return nil, nil, errors.Join(err, ours.Close())
	}
	return ours, theirs, nil
}
