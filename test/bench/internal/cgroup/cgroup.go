// Package cgroup holds processes to limits of memory and processor as a
// container's are held: by control groups, version 1, which only root may make.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// root is where the kernel shows its control groups.
const root = "/sys/fs/cgroup"

// period is over which a group's share of the processor is counted, as
// Kubernetes sets it.
const period = 100 * time.Millisecond

// A Group is processes that share limits.
type Group struct{ memory, cpu string }

// New makes a group that may hold so many bytes of memory, files in the page
// cache included, and use so many cores. Name must be of no other group.
func New(name string, memory int64, cores float64) (*Group, error) {
	g := &Group{filepath.Join(root, "memory", name), filepath.Join(root, "cpu", name)}
	for _, dir := range []string{g.memory, g.cpu} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return nil, errors.Join(fmt.Errorf("control group (version 1): %w", err), g.Close())
		}
	}
	for file, value := range map[string]int64{
		filepath.Join(g.memory, "memory.limit_in_bytes"): memory,
		filepath.Join(g.cpu, "cpu.cfs_period_us"):        period.Microseconds(),
		filepath.Join(g.cpu, "cpu.cfs_quota_us"):         int64(cores * float64(period.Microseconds())),
	} {
		if err := os.WriteFile(file, strconv.AppendInt(nil, value, 10), 0o644); err != nil {
			return nil, errors.Join(err, g.Close())
		}
	}
	return g, nil
}

// Add moves a process into the group; what it holds already stays counted where it was.
func (g *Group) Add(pid int) error {
	for _, dir := range []string{g.memory, g.cpu} {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), strconv.AppendInt(nil, int64(pid), 10), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Close removes the group, which no process may be in any more.
func (g *Group) Close() error {
	var errs []error
	for _, dir := range []string{g.memory, g.cpu} {
		if err := os.Remove(dir); err != nil && !os.IsNotExist(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Held is how the limits were felt so far.
type Held struct {
	Periods   int64         // in which the group ran
	Throttled int64         // of them: in which it had used its share up, and waited
	Waited    time.Duration // all threads together
	Killed    int64         // processes, for want of memory
}

// Held reads it.
func (g *Group) Held() (Held, error) {
	cpu, err := os.ReadFile(filepath.Join(g.cpu, "cpu.stat"))
	if err != nil {
		return Held{}, err
	}
	memory, err := os.ReadFile(filepath.Join(g.memory, "memory.oom_control"))
	if err != nil {
		return Held{}, err
	}
	return parse(string(cpu) + string(memory)), nil
}

// parse reads the lines "name value" of the group's files.
func parse(text string) Held {
	var h Held
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			continue
		}
		switch name {
		case "nr_periods":
			h.Periods = n
		case "nr_throttled":
			h.Throttled = n
		case "throttled_time":
			h.Waited = time.Duration(n)
		case "oom_kill":
			h.Killed = n
		}
	}
	return h
}
