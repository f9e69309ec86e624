package watcher_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

var (
	awayFor  = flag.Duration("away", 4*time.Second, "how long NATS is away")
	awayPods = flag.Int("away-pods", 120, "how many pods there are meanwhile")
)

const (
	awayChange   = 10 * time.Millisecond // from one change of some pod to the next
	awayPatience = 5 * time.Minute
	awayRest     = 6 * time.Second // longer than the watcher waits before it tries again
	awayGrowth   = 64 << 20        // of the watcher's memory, at most
)

// Pods begin to fail, go on failing, heal and go while NATS is away, and some
// do so all the time, before and after too. Two watchers see it.
func TestWhatHappensWhileNATSIsAwayIsToldOnceWhenItIsBack(t *testing.T) {
	server := bustest.Listen(t)
	events := read(t, server)
	c := newCluster(t)
	pods := make([]string, *awayPods)
	for i := range pods {
		pods[i] = fmt.Sprint("p", i)
	}
	each(t, pods, func(name string) error {
		p := churnPod(name, "canary", nil)
		p.Spec.NodeName = "n1.example.internal"
		_, err := c.CoreV1().Pods("shop").Create(t.Context(), p, metav1.CreateOptions{})
		return errors.Join(err, c.heal(t.Context(), name))
	})
	fail := func(names ...string) {
		each(t, names, func(name string) error { return c.fail(t.Context(), name) })
	}
	heal := func(names ...string) {
		each(t, names, func(name string) error { return c.heal(t.Context(), name) })
	}
	remove := func(names ...string) {
		each(t, names, func(name string) error {
			now := int64(0)
			return c.CoreV1().Pods("shop").Delete(t.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &now})
		})
	}
	part := len(pods) / 12
	healed, removed := pods[part:2*part], pods[2*part:3*part]                               // they fail before, as those before them do
	begun, passed, passing := pods[3*part:4*part], pods[4*part:5*part], pods[5*part:6*part] // they begin meanwhile
	changing := pods[6*part:]

	w, other := startProcess(t, server.URL(), c.on), startProcess(t, server.URL(), c.on)
	fail(pods[:3*part]...)
	expect := map[string]string{}
	note := func(told string, names []string) {
		for _, name := range names {
			expect[name] = told
		}
	}
	note("began", pods[:3*part])
	note("", pods[3*part:6*part])
	told(t, events, expect)
	stop := c.keepChanging(t, changing)
	before := w.sample(t)

	server.Stop()
	fail(pods[3*part : 6*part]...)
	heal(healed...)
	remove(removed...)
	most := w.watch(t, *awayFor)
	heal(passed...)
	remove(passing...)
	w.watch(t, time.Second) // which takes it in
	server.Restart(t)

	note("began ended", healed)
	note("began ended", removed)
	note("began", begun)
	told(t, events, expect)
	for name, failing := range stop() {
		expect[name] = map[bool]string{true: "failing", false: "well"}[failing]
	}
	told(t, events, expect)
	w.watch(t, awayRest) // something that should not be told could be still to come
	after := w.sample(t)
	w.end(t)
	other.end(t)

	if diff := cmp.Diff(expect, outcome(events, expect)); diff != "" {
		t.Errorf("told of each pod (-want +got):\n%s", diff)
	}
	t.Logf("%s away, %d pods, %d of them changing: before %s, at most %s, after %s", *awayFor, len(pods), len(changing), before, most, after)
	if most.rss > before.rss+awayGrowth || after.rss > before.rss+awayGrowth {
		t.Errorf("memory: before %s, at most %s, after %s; want no more than %d MiB of growth", before, most, after, awayGrowth>>20)
	}
	if after.goroutines > before.goroutines+5 {
		t.Errorf("%d goroutines after %d before", after.goroutines, before.goroutines)
	}
}

// told waits until what was told of each pod is as expected.
func told(t *testing.T, events *reader, expect map[string]string) {
	t.Helper()
	kubetest.Eventually(t, awayPatience, func(context.Context) error {
		if diff := cmp.Diff(expect, outcome(events, expect)); diff != "" {
			return fmt.Errorf("told of each pod (-want +got):\n%s", diff)
		}
		return nil
	})
}

// outcome is what was told of each pod, in order. Of one that is expected to
// be failing or well by now, however often it was otherwise before, it is
// that, if beginnings and ends take turns.
func outcome(events *reader, expect map[string]string) map[string]string {
	all := map[string][]string{}
	for _, f := range events.all() {
		what := "began"
		if f.Resolved() {
			what = "ended"
		}
		if f.Occurrence != 1 {
			what = fmt.Sprint("occurrence ", f.Occurrence)
		}
		all[f.Target.Name] = append(all[f.Target.Name], what)
	}
	got := map[string]string{}
	for name, want := range expect {
		if want != "failing" && want != "well" {
			got[name] = strings.Join(all[name], " ")
			continue
		}
		got[name] = "well"
		for i, what := range all[name] {
			if what != []string{"began", "ended"}[i%2] {
				got[name] = fmt.Sprintf("in turn %d: %s", i, strings.Join(all[name], " "))
				break
			}
			got[name] = []string{"failing", "well"}[i%2]
		}
	}
	return got
}

// each does something with every pod, some at once.
func each(t *testing.T, names []string, do func(name string) error) {
	t.Helper()
	var running errgroup.Group
	running.SetLimit(8)
	for _, name := range names {
		running.Go(func() error { return do(name) })
	}
	if err := running.Wait(); err != nil {
		t.Fatal(err)
	}
}

// fail gives a pod's container an image that has no name, which counts at once.
func (c *cluster) fail(ctx context.Context, name string) error {
	return c.container(ctx, name, corev1.ContainerStatus{
		Name: "app", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "InvalidImageName"}},
	})
}

func (c *cluster) heal(ctx context.Context, name string) error {
	return c.container(ctx, name, corev1.ContainerStatus{
		Name: "app", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
	})
}

func (c *cluster) container(ctx context.Context, name string, is corev1.ContainerStatus) error {
	_, err := c.CoreV1().Pods("shop").UpdateStatus(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{is}},
	}, metav1.UpdateOptions{})
	return err
}

// keepChanging has pods fail and heal, one after the other, until stop is
// called, which says whether each fails.
func (c *cluster) keepChanging(t *testing.T, names []string) (stop func() map[string]bool) {
	ctx, cancel := context.WithCancel(t.Context())
	failing, ended := map[string]bool{}, make(chan error, 1)
	for _, name := range names {
		failing[name] = false
	}
	go func() {
		tick := time.NewTicker(awayChange)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				ended <- nil
				return
			case <-tick.C:
			}
			name := names[rand.N(len(names))]
			change := c.fail
			if failing[name] {
				change = c.heal
			}
			if err := change(t.Context(), name); err != nil {
				ended <- err
				return
			}
			failing[name] = !failing[name]
		}
	}()
	stop = sync.OnceValue(func() map[string]bool {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("change a pod: %v", err)
		}
		return failing
	})
	t.Cleanup(func() { stop() })
	return stop
}

// asWatcher in the environment makes the test binary a watcher's process.
const asWatcher = "WATCHER_TEST_PROCESS"

// A process is a watcher of its own, so that its memory is nobody else's.
type process struct {
	cmd  *exec.Cmd
	addr string
	log  logs
	read sync.WaitGroup // the reading of its log
}

func startProcess(t *testing.T, nats string, on *kubetest.Cluster) *process {
	t.Helper()
	w := &process{cmd: exec.Command(os.Args[0])}
	w.cmd.Env = []string{
		asWatcher + "=1", "GOGC=25", "GOCOVERDIR=" + t.TempDir(), "SELFHEAL_CLUSTER=" + bustest.Cluster, "SELFHEAL_HTTP_ADDR=127.0.0.1:0",
		"NATS_URL=" + nats, "KUBECONFIG=" + on.Kubeconfig,
		"HEALTH_CHECK_INTERVAL=3600", "RECOVERY_TIMEOUT=3600", "POD_CHECK_INTERVAL=1", "NODE_CHECK_INTERVAL=1",
	}
	stderr, err := w.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := make(chan string, 1)
	w.read.Go(func() {
		defer close(addr)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			_, _ = w.log.Write(append(lines.Bytes(), '\n'))
			if _, after, found := strings.Cut(lines.Text(), `"addr":"`); found {
				select {
				case addr <- after[:strings.Index(after, `"`)]:
				default: // it is known
				}
			}
		}
	})
	t.Cleanup(func() {
		_ = w.cmd.Process.Kill() // usually it has ended
		w.read.Wait()
		_ = w.cmd.Wait()
		if t.Failed() {
			t.Logf("log of the watcher:\n%s", w.log.String())
		}
	})
	select {
	case w.addr = <-addr:
	case <-time.After(awayPatience):
	}
	if w.addr == "" {
		t.Fatal("the watcher does not serve HTTP")
	}
	kubetest.Eventually(t, awayPatience, func(ctx context.Context) error {
		_, err := w.get(ctx, "/ready")
		return err
	})
	return w
}

func (w *process) get(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.addr+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	var text strings.Builder
	if _, err := bufio.NewReader(resp.Body).WriteTo(&text); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %d: %s", path, resp.StatusCode, text.String())
	}
	return text.String(), nil
}

// A sample is what a watcher takes at a moment.
type sample struct {
	rss, goroutines int
}

func (s sample) String() string {
	return fmt.Sprintf("%.1f MiB and %d goroutines", float64(s.rss)/(1<<20), s.goroutines)
}

func (w *process) sample(t *testing.T) sample {
	t.Helper()
	text, err := w.get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	value := func(metric string) int {
		for line := range strings.Lines(text) {
			if name, value, _ := strings.Cut(strings.TrimSpace(line), " "); name == metric {
				v, err := strconv.ParseFloat(value, 64)
				if err != nil {
					t.Fatal(err)
				}
				return int(v)
			}
		}
		t.Fatalf("no metric %s", metric)
		return 0
	}
	return sample{rss: value("process_resident_memory_bytes"), goroutines: value("go_goroutines")}
}

// watch looks at the process for so long, and returns the most that it took.
func (w *process) watch(t *testing.T, d time.Duration) (most sample) {
	t.Helper()
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		now := w.sample(t)
		most = sample{max(most.rss, now.rss), max(most.goroutines, now.goroutines)}
		select {
		case <-end.C:
			return most
		case <-tick.C:
		}
	}
}

// end ends the process in good order.
func (w *process) end(t *testing.T) {
	t.Helper()
	if err := w.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	w.read.Wait()
	if err := w.cmd.Wait(); err != nil {
		t.Errorf("the watcher ended with %v", err)
	}
}
