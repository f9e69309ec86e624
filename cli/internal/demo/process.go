package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Children are processes that end no later than this one, however this one
// ends, where the kernel can promise that.
type children struct {
	starts chan func()   // run on the thread that the children's lives depend on
	ended  chan *child   // a child that ended by itself
	done   chan struct{} // closed by close
	logs   string
	all    []*child
}

// newChildren keeps the children's output in files in the folder logs.
func newChildren(logs string) *children {
	c := &children{starts: make(chan func()), ended: make(chan *child, 16), done: make(chan struct{}), logs: logs}
	go func() {
		// The kernel counts as a parent's death that of the thread which
		// started the child, so that thread has to stay.
		runtime.LockOSThread()
		for {
			select {
			case start := <-c.starts:
				start()
			case <-c.done:
				return
			}
		}
	}()
	return c
}

// close gives the thread back. All children must have been stopped.
func (c *children) close() { close(c.done) }

// A child is a running process.
type child struct {
	name  string
	log   string
	cmd   *exec.Cmd
	stdin io.Closer
	exit  chan struct{} // closed when it has ended
	once  sync.Once

	mu       sync.Mutex
	stopping bool  // it is meant to end; guarded by mu
	err      error // how it ended, once exit is closed
}

// start runs a program with this environment and no other. Its standard input
// stays open for as long as it should run; what it prints goes to its log, and
// the lines of standard output to line as well, if that is not nil.
func (c *children) start(name, path string, args, env []string, line func(string)) (*child, error) {
	log, err := os.Create(filepath.Join(c.logs, name+".log"))
	if err != nil {
		return nil, err
	}
	// No context kills it: children are stopped in order, and given time.
	p := &child{name: name, log: log.Name(), cmd: exec.CommandContext(context.Background(), path, args...), exit: make(chan struct{})}
	p.cmd.Env = env
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = childAttributes()
	var lines io.ReadCloser
	if line != nil {
		p.cmd.Stdout = nil
		if lines, err = p.cmd.StdoutPipe(); err != nil {
			return nil, errors.Join(err, log.Close())
		}
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	started := make(chan error)
	c.starts <- func() { started <- p.cmd.Start() }
	if err := <-started; err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", name, err), log.Close())
	}
	c.all = append(c.all, p)
	go func() {
		if line != nil {
			for s := bufio.NewScanner(lines); s.Scan(); {
				line(s.Text())
			}
		}
		err := p.cmd.Wait()
		_ = log.Close()
		p.mu.Lock()
		p.err = err
		byItself := !p.stopping
		p.mu.Unlock()
		close(p.exit)
		if byItself {
			c.ended <- p
		}
	}()
	return p, nil
}

// stop asks the child to end, waits for it, and kills it if it takes longer.
func (p *child) stop(patience time.Duration) error {
	p.once.Do(func() {
		p.mu.Lock()
		p.stopping = true
		p.mu.Unlock()
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // unless it has ended
		_ = p.stdin.Close()
	})
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.exit:
	case <-timer.C:
		_ = p.cmd.Process.Kill()
		<-p.exit
		return fmt.Errorf("%s did not stop within %s and was killed; see %s", p.name, patience, p.log)
	}
	return nil
}

// failure says how a child ended that should not have, with its last words.
func (p *child) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	how := "ended"
	if p.err != nil {
		how = p.err.Error()
	}
	if words := lastWords(p.log); words != "" {
		how += ": " + words
	}
	return fmt.Errorf("%s: %s (log: %s)", p.name, how, p.log)
}

// lastWords is the last line of a log if it says what went wrong: an error in
// a log of ours, or anything that is no log line, such as that of a panic.
func lastWords(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	last := lines[len(lines)-1]
	var record struct{ Level, Msg, Err string }
	if json.Unmarshal([]byte(last), &record) == nil {
		if record.Level != "ERROR" {
			return ""
		}
		last = strings.TrimSuffix(record.Msg+": "+record.Err, ": ")
	}
	return heal.Clean(last, heal.MaxText)
}

// Silence points standard output and error nowhere, so that whoever waits for
// the end of them does not wait for the end of this process.
func Silence() error {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(silence(int(null.Fd())), null.Close())
}
