package process

import (
	"os"
	"testing"
	"time"
)

func TestCPUCountsOurOwnWork(t *testing.T) {
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for after := before; after-before < 5*time.Millisecond; {
		if after, err = CPU(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCPUOfNoProcessIsAnError(t *testing.T) {
	if _, err := CPU(1 << 27); err == nil {
		t.Error("no error")
	}
}

func TestRSSOfThisProcess(t *testing.T) {
	m, err := RSS(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if m.Now < 1<<20 || m.Peak < m.Now/2 {
		t.Errorf("got %+v", m)
	}
}

func TestStatusWithoutMemoryIsAnError(t *testing.T) {
	if _, err := parseStatus("Name:\tzombie\n"); err == nil {
		t.Error("no error")
	}
	m, err := parseStatus("VmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n")
	if want := (Memory{Now: 1 << 20, Peak: 2 << 20}); err != nil || m != want {
		t.Errorf("got %+v, %v; want %+v", m, err, want)
	}
}
