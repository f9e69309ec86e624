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

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
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
		"KUBECONFIG="+r.kubeconfig(), "RECOVERY_TIMEOUT=180", "VERIFY_WINDOW=2", "HEALTH_CHECK_INTERVAL=1", "SELFHEAL_MODE=auto",
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

// effective are the writes of any actuator process, which say so in their user
// agent, in the rig's namespace.
func (r *rig) effective() []kubetest.AuditEvent {
	r.t.Helper()
	return slices.DeleteFunc(r.cluster.MutationsBy(r.t, heal.FieldManager), func(e kubetest.AuditEvent) bool {
		return e.Namespace != r.ns || e.DryRun || e.Code >= 300
	})
}

// A victim is one decision and the actuator that dies or stops of it.
type victim struct {
	*rig
	sick     *corev1.Pod
	decision heal.Decision
	first    *process
	second   *process
}

// victimOf prepares one, and publishes its decision.
func victimOf(t *testing.T, at crash.Point, signal string, strategy heal.Strategy) *victim {
	t.Helper()
	r := rigOn(t, bustest.Listen(t), kubetest.Get(t))
	sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
	v := &victim{rig: r, sick: sick, decision: decide(podTarget(sick), heal.PodFailure, strategy), first: r.launch(at, signal)}
	r.publish(v.decision)
	return v
}

// once fails the test unless the decision was carried out and told once.
func (v *victim) once() {
	v.t.Helper()
	if got := v.told(v.decision); got != 1 {
		v.t.Errorf("%d results, want 1", got)
	}
	if got := v.effective(); len(got) != 1 || got[0].UID != string(v.sick.UID) {
		v.t.Errorf("writes %v, want one on UID %s", got, v.sick.UID)
	}
}

// stop ends a process the orderly way.
func (v *victim) stop(p *process) {
	v.t.Helper()
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		v.t.Fatal(err)
	}
	v.wait(p, 25*time.Second)
	if code := p.ProcessState.ExitCode(); code != 0 {
		v.t.Errorf("exit code %d, want 0", code)
	}
}

func (v *victim) wait(p *process, within time.Duration) {
	v.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(within):
		v.t.Fatalf("the actuator has not ended within %s", within)
	}
}

// killed waits until the process was killed, and fails the test if it ended
// in any other way.
func (v *victim) killed(p *process) {
	v.t.Helper()
	v.wait(p, time.Minute)
	if status, ok := p.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		v.t.Fatalf("ended with %v", p.ProcessState)
	}
}

func TestADecisionSurvivesTheDeathOfItsActuatorAtAnyPoint(t *testing.T) {
	t.Parallel()
	for strategy, points := range map[heal.Strategy][]crash.Point{
		heal.Restart:  crash.Points,
		heal.Recreate: {crash.BeforeAPI, crash.AfterAPIBeforeRecord},
	} {
		for _, at := range points {
			t.Run(string(strategy)+"/"+string(at), func(t *testing.T) {
				t.Parallel()
				v := victimOf(t, at, "KILL", strategy)
				v.killed(v.first)
				v.second = v.launch("", "")
				res := v.result(v.decision, 2*time.Minute)
				if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
					t.Errorf("ended %v, want %v: %s", got, want, res.Message)
				}
				v.settled()
				v.once()
				v.stop(v.second)
			})
		}
	}
}

func TestAnActuatorThatStoodStillDoesNothingWhenItGoesOn(t *testing.T) {
	t.Parallel()
	for _, at := range []crash.Point{crash.AfterPrecheck, crash.AfterDryRun, crash.BeforeAPI, crash.AfterAPIBeforeRecord} {
		t.Run(string(at), func(t *testing.T) {
			t.Parallel()
			v := victimOf(t, at, "STOP", heal.Restart)
			kubetest.Eventually(t, time.Minute, func(context.Context) error { return stopped(v.first.Process.Pid) })
			v.second = v.launch("", "")
			res := v.result(v.decision, 2*time.Minute)
			if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
				t.Errorf("ended %v, want %v: %s", got, want, res.Message)
			}
			if err := v.first.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			v.settled()
			v.stop(v.first) // which waits for what it is at
			v.once()
		})
	}
}

func TestADrainSurvivesTheDeathOfItsActuator(t *testing.T) {
	t.Parallel()
	r := rigOn(t, bustest.Listen(t), ward(t))
	a, b := r.nodes()
	cordon(t, r, b, true) // all pods start on the other
	pods := r.ready(r.deploy("web", "shop/api:good", 4, r.here))
	cordon(t, r, b, false)
	d := drainOf(r.down(a))
	at := crash.AfterAPIBeforeRecord + ":3" // the node is cordoned, and two pods are evicted
	v := &victim{rig: r, decision: d, first: r.launch(at, "KILL")}
	r.publish(d)
	v.killed(v.first)
	second := r.launch("", "")
	for i := range pods {
		r.until(&pods[i], "terminating", func(p *corev1.Pod) bool { return p.DeletionTimestamp != nil })
	}
	if err := r.cluster.StartNode(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	res := r.result(d, 2*time.Minute)
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.settled()
	if got := r.told(d); got != 1 {
		t.Errorf("%d results, want 1", got)
	}
	evicted, want := map[string]int{}, map[string]int{}
	for _, e := range r.effective() {
		evicted[e.UID]++
	}
	for _, p := range pods {
		want[string(p.UID)] = 1
	}
	if diff := cmp.Diff(want, evicted); diff != "" {
		t.Errorf("effective writes by UID (-want +got):\n%s", diff)
	}
	if n := r.node(a); !untouched(n) {
		t.Errorf("left behind: unschedulable %v, annotations %v", n.Spec.Unschedulable, n.Annotations)
	}
	v.stop(second)
}

// survives kills the actuator of d at the point, lets another go on, and fails
// the test unless d then ends as wanted, and is told once. In between, meanwhile
// is called, if there is any.
func (r *rig) survives(at crash.Point, d heal.Decision, want ended, meanwhile func()) heal.Result {
	r.t.Helper()
	v := &victim{rig: r, decision: d, first: r.launch(at, "KILL")}
	r.publish(d)
	v.killed(v.first)
	v.second = r.launch("", "")
	if meanwhile != nil {
		meanwhile()
	}
	res := r.result(d, 2*time.Minute)
	if got := end(res); got != want {
		r.t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
	r.settled()
	if got := r.told(d); got != 1 {
		r.t.Errorf("%d results, want 1", got)
	}
	v.stop(v.second)
	return res
}

var verified = ended{heal.Succeeded, "Verified"}

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
