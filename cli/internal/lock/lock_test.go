package lock

import (
	"errors"
	"os"
	"testing"
)

func TestADirectoryHasOneHolder(t *testing.T) {
	dir := t.TempDir()
	if pid := Holder(dir); pid != 0 {
		t.Errorf("a free directory is held by %d", pid)
	}
	first, err := Acquire(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(dir)
	var inUse InUseError
	if !errors.As(err, &inUse) || inUse != (InUseError{Dir: dir, PID: os.Getpid()}) {
		t.Errorf("taken twice: %v", err)
	}
	if pid := Holder(dir); pid != os.Getpid() {
		t.Errorf("held by %d, want %d", pid, os.Getpid())
	}
	first.Release()
	again, err := Acquire(dir)
	if err != nil {
		t.Fatalf("after it was given back: %v", err)
	}
	again.Release()
}
