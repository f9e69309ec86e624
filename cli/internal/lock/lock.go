// Package lock gives a directory to one process at a time.
package lock

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// An InUseError says that a directory belongs to another running process.
type InUseError struct {
	Dir string
	PID int // 0 when it is not known
}

func (e InUseError) Error() string {
	who := "another process"
	if e.PID != 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("%s is in use by %s", e.Dir, who)
}

// A Lock is an advisory lock of the kernel on a file: it ends with the
// process, however that ends, so a stale one cannot exist.
type Lock struct{ file *os.File }

func path(dir string) string { return filepath.Join(dir, "lock") }

// Acquire makes the directory if need be and takes it for this process. The
// error is an InUseError if somebody else has it.
func Acquire(dir string) (*Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	f, err := os.OpenFile(path(dir), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid := readPID(f)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, InUseError{Dir: dir, PID: pid}
		}
		return nil, fmt.Errorf("lock %s: %w", path(dir), err)
	}
	// The pid is only for the message; without it the lock holds all the same.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())), 0)
	}
	return &Lock{f}, nil
}

// Holder returns the process that has the directory, 0 if none has it or it
// is not known.
func Holder(dir string) int {
	if _, err := os.Stat(path(dir)); err != nil {
		return 0
	}
	var inUse InUseError
	l, err := Acquire(dir)
	if errors.As(err, &inUse) {
		return inUse.PID
	}
	if err == nil {
		l.Release()
	}
	return 0
}

func readPID(f *os.File) int {
	text, err := io.ReadAll(io.LimitReader(f, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}

// Release gives the directory back.
func (l *Lock) Release() { _ = l.file.Close() }
