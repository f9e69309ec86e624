// Package process reads what the kernel has counted of another process.
package process

import (
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// CPU is the processor time that a process has used so far, all its threads
// together, those that have ended too. To the nanosecond, where /proc counts
// in hundredths of a second.
func CPU(pid int) (time.Duration, error) {
	// The kernel's name of the clock: ~pid, and 2 for the scheduler's count.
	clock := int32(^pid<<3 | 2)
	var t unix.Timespec
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("processor time of process %d: %w", pid, err)
	}
	return time.Duration(t.Nano()), nil
}

// Memory is what a process holds in memory, in bytes.
type Memory struct {
	Now  int64
	Peak int64
}

// RSS is the resident memory of a process.
func RSS(pid int) (Memory, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return Memory{}, err
	}
	return parseStatus(string(b))
}

func parseStatus(status string) (Memory, error) {
	m := Memory{Now: -1, Peak: -1}
	for line := range strings.Lines(status) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmRSS: %d kB", &kib); n == 1 {
			m.Now = kib << 10
		}
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			m.Peak = kib << 10
		}
	}
	if m.Now < 0 || m.Peak < 0 {
		return Memory{}, fmt.Errorf("no VmRSS or no VmHWM in %q", status)
	}
	return m, nil
}
