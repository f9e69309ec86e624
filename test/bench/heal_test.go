// Package bench measures the whole pipeline against references in the same
// run. Nothing here asserts a time; the figures go to docs/benchmarks.md.
package bench

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/harness"
)

// Nodes are not taken for dead only because the machine is busy.
func TestMain(m *testing.M) {
	os.Exit(harness.Main(m, kubetest.Options{Nodes: 5, Args: []string{"--node-monitor-grace-period=60s"}}))
}

// BenchmarkTimeToHeal breaks b.N pods, 300 ms apart, and reports, from the
// moment that a watch of the benchmark's own shows the failure (the first
// restart, as pod_restart_threshold is 1): when the
// API server received the first write of the actuator (the dry run before it
// not counted), and when the result said that it helped. The verification
// window, 3 s here, is part of the latter. Run it with -benchtime=50x.
func BenchmarkTimeToHeal(b *testing.B) {
	const verifyWindow = "3"
	c := kubetest.Get(b)
	kube := c.Client(b)
	ns := c.Namespace(b)
	for i := range b.N + 1 {
		d := harness.Deployment(fmt.Sprintf("app-%03d", i), "shop/app:1", 1)
		if _, err := kube.AppsV1().Deployments(ns).Create(b.Context(), d, metav1.CreateOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	victims := make([]corev1.Pod, b.N+1) // the first is not measured
	for i := range victims {
		app := fmt.Sprintf("app-%03d", i)
		harness.WaitAvailable(b, kube, ns, app, 1)
		victims[i] = harness.Pods(b, kube, ns, app)[0]
	}
	policy := filepath.Join(b.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("name: bench\nguards: {actions_per_minute: 3000}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	p := harness.Start(b, c, map[string]string{
		"SELFHEAL_POLICY_FILE":  policy,
		"HEALTH_CHECK_INTERVAL": "5", "POD_RESTART_THRESHOLD": "1", "RECOVERY_TIMEOUT": "60", "VERIFY_WINDOW": verifyWindow,
		"MAX_POD_ACTIONS_NAMESPACE": "600", "MAX_POD_ACTIONS_CLUSTER": "3000",
	})
	record := harness.Listen(b, p.Bus(b))
	seen := reference(b, c, ns)

	// Nothing is done before a watcher has seen clearly for a while.
	if err := c.SetBehaviour(b.Context(), ns, victims[0].Name, "crash"); err != nil {
		b.Fatal(err)
	}
	harness.WaitFor(b, time.Minute, "acting to begin", func() error {
		for _, e := range record.Results() {
			if e.Data.Outcome == heal.Succeeded {
				return nil
			}
		}
		return errors.New("no success yet")
	})
	victims = victims[1:]

	b.ResetTimer()
	for _, v := range victims {
		if err := c.SetBehaviour(b.Context(), ns, v.Name, "crash"); err != nil {
			b.Fatal(err)
		}
		select {
		case <-b.Context().Done():
		case <-time.After(300 * time.Millisecond):
		}
	}
	verified := map[string]time.Time{}
	harness.WaitFor(b, 5*time.Minute, "all to be healed", func() error {
		for _, e := range record.Results() {
			if e.Data.Outcome == heal.Succeeded {
				verified[e.Data.Decision.Target.UID] = e.Time
			}
		}
		if len(verified) < b.N+1 {
			return fmt.Errorf("%d of %d", len(verified), b.N+1)
		}
		return nil
	})
	b.StopTimer()

	first := map[string]time.Time{}
	for _, e := range kubetest.Mutations(c.Audit(b), "selfheal-actuator/") {
		if _, again := first[e.UID]; !again && !e.DryRun && e.Namespace == ns {
			first[e.UID] = e.Time
		}
	}
	var toWrite, toVerified []time.Duration
	for _, v := range victims {
		uid := string(v.UID)
		at, ok := seen(uid)
		if !ok {
			b.Fatalf("the reference watch never saw %s fail", v.Name)
		}
		toWrite = append(toWrite, first[uid].Sub(at))
		toVerified = append(toVerified, verified[uid].Sub(at))
	}
	report(b, "to-write", toWrite)
	report(b, "to-verified", toVerified)
	for _, s := range harness.Services {
		b.ReportMetric(float64(p.PeakRSS(s))/(1<<20), s+"-MiB")
	}
}

// reference watches the pods as any client could, and tells when it first saw
// that a container was started again.
func reference(b *testing.B, c *kubetest.Cluster, ns string) func(uid string) (time.Time, bool) {
	w, err := c.Client(b).CoreV1().Pods(ns).Watch(b.Context(), metav1.ListOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.Stop)
	var mu sync.Mutex
	seen := map[string]time.Time{} // guarded by mu
	go func() {
		for e := range w.ResultChan() {
			now := time.Now()
			pod, ok := e.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			for _, s := range pod.Status.ContainerStatuses {
				if s.RestartCount == 0 {
					continue
				}
				mu.Lock()
				if _, again := seen[string(pod.UID)]; !again {
					seen[string(pod.UID)] = now
				}
				mu.Unlock()
			}
		}
	}()
	return func(uid string) (time.Time, bool) {
		mu.Lock()
		defer mu.Unlock()
		at, ok := seen[uid]
		return at, ok
	}
}

// report adds the median and the worst of d to the benchmark's line, in milliseconds.
func report(b *testing.B, what string, d []time.Duration) {
	slices.Sort(d)
	b.ReportMetric(float64(d[len(d)/2].Microseconds())/1000, what+"-median-ms")
	b.ReportMetric(float64(d[len(d)-1].Microseconds())/1000, what+"-worst-ms")
}
