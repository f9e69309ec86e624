package actuator_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator/internal/crash"
)

// binary builds the actuator with crash points, once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "actuator-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "actuator")
	cmd := exec.Command("go", "build", "-tags", "crashpoints", "-o", path, "./cmd/actuator")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return path, cmd.Run()
})

// A process is an actuator that really can die.
type process struct {
	*exec.Cmd
	ended chan struct{}
}

// launch starts one, that dies or stops at the point if one is given.
func (r *rig) launch(at crash.Point, signal string) *process {
	r.t.Helper()
	path, err := binary()
	if err != nil {
		r.t.Fatal(err)
	}
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "SELFHEAL_NATS_URL="+r.server.URL(), "SELFHEAL_CLUSTER="+bustest.Cluster, "SELFHEAL_HTTP_ADDR=",
		"KUBECONFIG="+r.kubeconfig(), "RECOVERY_TIMEOUT=90", "VERIFY_WINDOW=2", "HEALTH_CHECK_INTERVAL=1", "SELFHEAL_MODE=auto",
		"SELFHEAL_CRASH_AT="+string(at), "SELFHEAL_CRASH_SIGNAL="+signal)
	cmd.Stderr = lines{r.t}
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	p := &process{cmd, make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-p.ended
	})
	return p
}

// kubeconfig is that of the actuators' user.
func (r *rig) kubeconfig() string {
	r.t.Helper()
	config, err := clientcmd.LoadFromFile(r.cluster.Kubeconfig)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, who := range config.AuthInfos {
		who.Impersonate = user
	}
	path := filepath.Join(r.t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		r.t.Fatal(err)
	}
	return path
}

// effective are the writes of any actuator process in the rig's namespace.
func (r *rig) effective() []kubetest.AuditEvent {
	r.t.Helper()
	return slices.DeleteFunc(kubetest.Mutations(r.cluster.Audit(r.t), heal.Product+"-actuator"), func(e kubetest.AuditEvent) bool {
		return e.Namespace != r.ns || e.DryRun || e.Code >= 300
	})
}

func TestADecisionSurvivesTheDeathOfItsActuatorAtAnyPoint(t *testing.T) {
	t.Parallel()
	for _, at := range crash.Points {
		for _, strategy := range []heal.Strategy{heal.Restart, heal.Recreate} {
			t.Run(string(at)+"/"+string(strategy), func(t *testing.T) {
				t.Parallel()
				r := rigOn(t, bustest.Listen(t))
				sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
				d := decide(podTarget(sick), heal.PodFailure, strategy)
				first := r.launch(at, "KILL")
				r.publish(d)
				select {
				case <-first.ended:
				case <-time.After(time.Minute):
					t.Fatalf("the actuator did not reach %s", at)
				}
				if status, ok := first.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
					t.Fatalf("ended with %v", first.ProcessState)
				}
				second := r.launch("", "")

				res := r.result(d, 2*time.Minute)
				if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
					t.Errorf("ended %v, want %v: %s", got, want, res.Message)
				}
				r.settled()
				if got := r.told(d); got != 1 {
					t.Errorf("%d results, want 1", got)
				}
				if got := r.effective(); len(got) != 1 || got[0].UID != string(sick.UID) {
					t.Errorf("writes %v, want one on UID %s", got, sick.UID)
				}
				if err := second.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
				select {
				case <-second.ended:
				case <-time.After(25 * time.Second):
					t.Fatal("the actuator did not stop within 25 s")
				}
				if code := second.ProcessState.ExitCode(); code != 0 {
					t.Errorf("exit code %d, want 0", code)
				}
			})
		}
	}
}

func TestAnActuatorThatStoodStillDoesNothingWhenItGoesOn(t *testing.T) {
	t.Parallel()
	for _, at := range []crash.Point{crash.AfterPrecheck, crash.AfterDryRun, crash.BeforeAPI, crash.AfterAPIBeforeRecord} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			r := rigOn(t, bustest.Listen(t))
			sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
			d := restartOf(sick)
			first := r.launch(at, "STOP")
			r.publish(d)
			kubetest.Eventually(t, time.Minute, func(context.Context) error { return stopped(first.Process.Pid) })
			r.launch("", "")
			res := r.result(d, 2*time.Minute)
			if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
				t.Errorf("ended %v, want %v: %s", got, want, res.Message)
			}
			if err := first.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			r.settled()
			// It is not at work any more once it is idle enough to stop.
			if err := first.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			select {
			case <-first.ended:
			case <-time.After(25 * time.Second):
				t.Fatal("the actuator that stood still did not stop within 25 s")
			}
			if got := r.told(d); got != 1 {
				t.Errorf("%d results, want 1", got)
			}
			if got := r.effective(); len(got) != 1 || got[0].UID != string(sick.UID) {
				t.Errorf("writes %v, want one on UID %s", got, sick.UID)
			}
		})
	}
}

// stopped reports as an error that the process runs.
func stopped(pid int) error {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err
	}
	// The state follows the name, which stands in parentheses.
	_, after, _ := strings.Cut(string(stat), ") ")
	if !strings.HasPrefix(after, "T") {
		return fmt.Errorf("process %d is in state %.1s", pid, after)
	}
	return nil
}
