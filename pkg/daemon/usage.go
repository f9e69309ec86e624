package daemon

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// A cpuMeter tells how much of one CPU the process used since it was last asked.
type cpuMeter struct {
	mu   sync.Mutex // guards what follows
	when time.Time
	used time.Duration
}

func newCPUMeter() *cpuMeter { return &cpuMeter{when: time.Now(), used: cpuTime()} }

func (m *cpuMeter) fraction() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, used := time.Now(), cpuTime()
	passed, worked := now.Sub(m.when), used-m.used
	m.when, m.used = now, used
	if passed <= 0 {
		return 0
	}
	return worked.Seconds() / passed.Seconds()
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// residentBytes is the memory that the kernel holds for the process; where
// there is no /proc, what the Go runtime took from the system.
func residentBytes() uint64 {
	if data, err := os.ReadFile("/proc/self/statm"); err == nil {
		if fields := bytes.Fields(data); len(fields) > 1 {
			if pages, err := strconv.ParseUint(string(fields[1]), 10, 64); err == nil {
				return pages * uint64(os.Getpagesize())
			}
		}
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Sys - m.HeapReleased
}
