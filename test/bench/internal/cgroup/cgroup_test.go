package cgroup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestWhatTheKernelSaysOfAGroupIsRead(t *testing.T) {
	got := parse("nr_periods 120\nnr_throttled 7\nthrottled_time 350000000\nnr_bursts 0\noom_kill_disable 0\nunder_oom 0\noom_kill 1\n")
	if diff := cmp.Diff(Held{Periods: 120, Throttled: 7, Waited: 350 * time.Millisecond, Killed: 1}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAGroupHoldsAProcessToItsShareAndGoesWithIt(t *testing.T) {
	name := fmt.Sprintf("selfheal-test-%d", os.Getpid())
	g, err := New(name, 64<<20, 0.1)
	if err != nil {
		t.Skipf("no control group can be made here: %v", err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Error(err)
	}
	member, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", cmd.Process.Pid))
	if err != nil || strings.Count(string(member), "/"+name+"\n") != 2 {
		t.Errorf("%v: the process is in\n%s", err, member)
	}
	for deadline := time.After(10 * time.Second); ; {
		h, err := g.Held()
		if err != nil {
			t.Fatal(err)
		}
		if h.Throttled > 0 && h.Waited > 0 {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("a busy process never waited: %+v", h)
		case <-time.After(20 * time.Millisecond):
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // its status is "killed"
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(root, "cpu", name)); !os.IsNotExist(err) {
		t.Errorf("the group is still there: %v", err)
	}
	if _, err := New(name+"/below/nothing", 1, 1); err == nil {
		t.Error("a group below no group was made")
	}
}
