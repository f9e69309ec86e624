package bench

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/test/bench/internal/figure"
	"github.com/selfheal/selfheal/test/harness"
)

// The oracle is a bare client that knows its targets, asks nobody, writes
// nothing down and keeps so many requests under way.
const (
	oracle      = "oracle"
	oraclesBusy = 32
)

// BenchmarkRecover measures what is done at most: recoveries per second, and
// how long a drain takes, each against the oracle in the same run on the same
// control plane, by the API server's audit log. It writes its part of
// docs/benchmarks.md. Run it with -benchtime=1x.
func BenchmarkRecover(b *testing.B) {
	b.ReportMetric(0, "ns/op") // says nothing here, and is left out for it
	rows := []figure.Row{recoveries(b, victims(b)), drains(b, 11, 10)}
	table := fmt.Sprintf("On %d cores, %s, %s.\n\n%s", runtime.NumCPU(), runtime.Version(), time.Now().Format("January 2006"), figure.Table(rows))
	fmt.Println(table)
	if b.Failed() {
		return
	}
	path := filepath.Join(harness.RepositoryRoot(b), "docs", "benchmarks.md")
	document, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	text, err := figure.Replace(string(document), "recover", table)
	if err != nil {
		b.Fatalf("%s: %v", path, err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		b.Fatal(err)
	}
}

// victims is how many pods fail: 200, or what $BENCH_VICTIMS says.
func victims(b *testing.B) int {
	b.Helper()
	text := os.Getenv("BENCH_VICTIMS")
	if text == "" {
		return 200
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 2 {
		b.Fatalf("BENCH_VICTIMS: %q is not a number from 2 on", text)
	}
	return n
}

// A rig is a namespace on the shared cluster.
type rig struct {
	*testing.B
	cluster *kubetest.Cluster
	kube    kubernetes.Interface
	bare    kubernetes.Interface // the oracle's
	ns      string
}

func newRig(b *testing.B) *rig {
	b.Helper()
	c := kubetest.Get(b)
	config, err := c.RESTConfig()
	if err != nil {
		b.Fatal(err)
	}
	config.UserAgent = oracle
	bare, err := kubernetes.NewForConfig(config)
	if err != nil {
		b.Fatal(err)
	}
	return &rig{B: b, cluster: c, kube: c.Client(b), bare: bare, ns: c.Namespace(b)}
}

// impatient is the pipeline with caps as wide as they get.
func (r *rig) impatient(more map[string]string) map[string]string {
	r.Helper()
	policy := filepath.Join(r.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("name: bench\nguards: {actions_per_minute: 3000, storm: {share: 0.5, cooldown: 1}}\n"), 0o600); err != nil {
		r.Fatal(err)
	}
	s := map[string]string{
		"SELFHEAL_POLICY_FILE": policy, "HEALTH_CHECK_INTERVAL": "5", "POD_RESTART_THRESHOLD": "1", "RECOVERY_TIMEOUT": "120", "VERIFY_WINDOW": "3",
		"NODE_CHECK_INTERVAL": "1", "NODE_FAILURE_THRESHOLD": "1", "MAX_POD_ACTIONS_NAMESPACE": "600", "MAX_POD_ACTIONS_CLUSTER": "3000",
	}
	for key, value := range more {
		s[key] = value
	}
	return s
}

// span is when the first and the last pod was taken away, by eviction or, if it
// was not Ready anyway, by delete, and how many were, by whoever's user agent
// begins so.
func (r *rig) span(agent string) (first, last time.Time, n int) {
	r.Helper()
	for _, e := range kubetest.Mutations(r.cluster.Audit(r), agent) {
		if e.Namespace != r.ns || e.DryRun || e.Code >= 300 || e.Resource != "pods" || e.Subresource != "eviction" && e.Verb != "delete" {
			continue
		}
		if n == 0 || e.Time.Before(first) {
			first = e.Time
		}
		if e.Time.After(last) {
			last = e.Time
		}
		n++
	}
	return first, last, n
}

// evict has the oracle evict pods, each again until it is let.
func (r *rig) evict(pods []corev1.Pod) {
	r.Helper()
	work := make(chan corev1.Pod, len(pods))
	for _, p := range pods {
		work <- p
	}
	close(work)
	var all sync.WaitGroup
	for range oraclesBusy {
		all.Go(func() {
			for p := range work {
				for {
					err := r.bare.PolicyV1().Evictions(r.ns).Evict(r.Context(), &policyv1.Eviction{
						ObjectMeta:    metav1.ObjectMeta{Name: p.Name, Namespace: r.ns},
						DeleteOptions: &metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(p.UID))},
					})
					if err == nil {
						break
					}
					if !apierrors.IsTooManyRequests(err) {
						r.Errorf("the oracle: evict %s: %v", p.Name, err)
						break
					}
					select {
					case <-r.Context().Done():
						return
					case <-time.After(100 * time.Millisecond):
					}
				}
			}
		})
	}
	all.Wait()
}

// recoveries is how many failing pods are replaced in a second, once that has begun.
func recoveries(b *testing.B, n int) figure.Row {
	b.Helper()
	rate := func(agent string, heal func(r *rig, victims []corev1.Pod)) float64 {
		r := newRig(b)
		victims := r.crashing(n)
		heal(r, victims)
		first, last, done := r.span(agent)
		if done != n {
			b.Fatalf("%s: %d evictions, want %d", agent, done, n)
		}
		return float64(n-1) / last.Sub(first).Seconds()
	}
	bare := rate(oracle, func(r *rig, victims []corev1.Pod) { r.evict(victims) })
	ours := rate("selfheal-actuator/", func(r *rig, victims []corev1.Pod) {
		harness.Start(r, r.cluster, r.impatient(nil))
		harness.WaitFor(r, 5*time.Minute, "all pods to be replaced", func() error {
			if _, _, done := r.span("selfheal-actuator/"); done < n {
				return fmt.Errorf("%d of %d", done, n)
			}
			return nil
		})
	})
	b.ReportMetric(ours, "recoveries/s")
	b.ReportMetric(bare, "oracle/s")
	return figure.Row{
		What: "P3 real recoveries per second, from the first to the last pod taken away", Size: fmt.Sprintf("%d pods of as many workloads fail", n),
		Figure:    figure.Number(ours) + "/s",
		Reference: fmt.Sprintf("a bare client that evicts them, %d at a time: %s/s, of which that is %s", oraclesBusy, figure.Number(bare), figure.Percent(ours/bare)),
		Asked:     "≥ 90 %", Reached: figure.Within(0.9*bare, ours),
	}
}

// crashing makes n single pods, and has all of them crash.
func (r *rig) crashing(n int) []corev1.Pod {
	r.Helper()
	apps := make([]string, n)
	for i := range apps {
		apps[i] = fmt.Sprintf("app-%03d", i)
	}
	each(apps, func(app string) {
		if _, err := r.kube.AppsV1().Deployments(r.ns).Create(r.Context(), harness.Deployment(app, "shop/app:1", 1), metav1.CreateOptions{}); err != nil {
			r.Error(err)
		}
	})
	pods := r.pods("", n, true)
	each(pods, func(p corev1.Pod) {
		if err := r.cluster.SetBehaviour(r.Context(), r.ns, p.Name, "crash"); err != nil {
			r.Error(err)
		}
	})
	r.pods("", n, false)
	return pods
}

// pods waits until there are so many, all Ready or all not.
func (r *rig) pods(selector string, n int, ready bool) (found []corev1.Pod) {
	r.Helper()
	harness.WaitFor(r, 3*time.Minute, fmt.Sprintf("%d pods, ready: %v", n, ready), func() error {
		list, err := r.kube.CoreV1().Pods(r.ns).List(r.Context(), metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return err
		}
		found = slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.DeletionTimestamp != nil || isReady(&p) != ready })
		if len(found) != n {
			return fmt.Errorf("%d", len(found))
		}
		return nil
	})
	return found
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// each does f for all, 16 at a time.
func each[E any](all []E, f func(E)) {
	work := make(chan E)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for e := range work {
				f(e)
			}
		})
	}
	for _, e := range all {
		work <- e
	}
	close(work)
	wg.Wait()
}

// drains is how long it takes to ask a node's pods to go, each workload with a
// budget that lets one go at a time.
func drains(b *testing.B, workloads, replicas int) figure.Row {
	b.Helper()
	n := workloads * replicas
	passedBy := 0 // pods taken away without asking their budget
	took := func(agent string, drain func(r *rig, node string, pods []corev1.Pod)) time.Duration {
		r := newRig(b)
		node, pods := r.fullNode(workloads, replicas)
		drain(r, node, pods)
		for _, e := range kubetest.Mutations(r.cluster.Audit(r), agent) {
			if e.Namespace == r.ns && e.Resource == "pods" && e.Verb == "delete" {
				passedBy++
			}
		}
		first, last, done := r.span(agent)
		if done < n {
			b.Fatalf("%s: %d evictions, want %d", agent, done, n)
		}
		return last.Sub(first)
	}
	bare := took(oracle, func(r *rig, _ string, pods []corev1.Pod) { r.evict(pods) })
	ours := took("selfheal-actuator/", func(r *rig, node string, pods []corev1.Pod) {
		harness.Start(r, r.cluster, r.impatient(nil))
		if err := r.cluster.SetNotReady(r.Context(), node, "the container runtime is down"); err != nil { // its kubelet lives, and its pods serve on
			r.Fatal(err)
		}
		harness.WaitFor(r, 5*time.Minute, "all pods to be asked to go", func() error {
			if _, _, done := r.span("selfheal-actuator/"); done < n {
				return fmt.Errorf("%d of %d", done, n)
			}
			return nil
		})
	})
	b.ReportMetric(ours.Seconds(), "drain-s")
	b.ReportMetric(bare.Seconds(), "oracle-drain-s")
	return figure.Row{
		What: "P18 a drain, first to last eviction", Size: fmt.Sprintf("1 node, %d pods of %d workloads, each with a budget of one", n, workloads),
		Figure:    fmt.Sprintf("%s; %d pods taken away but by eviction", figure.Duration(ours), passedBy),
		Reference: fmt.Sprintf("a bare client that asks for each again until it is let: %s, %s of ours", figure.Duration(bare), figure.Percent(bare.Seconds()/ours.Seconds())),
		Asked:     "≥ 90 %, none broken", Reached: verdict(bare >= ours*9/10 && passedBy == 0),
	}
}

func verdict(ok bool) figure.Verdict {
	if ok {
		return figure.Yes
	}
	return figure.No
}

// fullNode makes two nodes, of which one runs all pods and the other none yet.
func (r *rig) fullNode(workloads, replicas int) (full string, pods []corev1.Pod) {
	r.Helper()
	full, other := "full-"+r.ns, "other-"+r.ns
	for _, name := range []string{full, other} {
		if err := r.cluster.AddNode(r.Context(), name, "zone-of-"+r.ns, map[string]string{"only": r.ns}); err != nil {
			r.Fatal(err)
		}
		r.Cleanup(func() {
			_ = r.kube.CoreV1().Nodes().Delete(context.Background(), name, metav1.DeleteOptions{}) // else it goes with the cluster
		})
	}
	r.cordon(other, "true")
	for i := range workloads {
		d := harness.Deployment(fmt.Sprintf("app-%02d", i), "shop/app:1", int32(replicas))
		d.Spec.Template.Spec.NodeSelector = map[string]string{"only": r.ns}
		r.deploy(d)
	}
	pods = r.pods("", workloads*replicas, true)
	r.cordon(other, "null")
	return full, pods
}

// deploy makes a Deployment, with a budget that lets one pod go at a time.
func (r *rig) deploy(d *appsv1.Deployment) {
	r.Helper()
	one := intstr.FromInt32(1)
	if _, err := r.kube.AppsV1().Deployments(r.ns).Create(r.Context(), d, metav1.CreateOptions{}); err != nil {
		r.Fatal(err)
	}
	if _, err := r.kube.PolicyV1().PodDisruptionBudgets(r.ns).Create(r.Context(), &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: d.Name},
		Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &one, Selector: d.Spec.Selector},
	}, metav1.CreateOptions{}); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) cordon(node, value string) {
	r.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"unschedulable":%s}}`, value)
	if _, err := r.kube.CoreV1().Nodes().Patch(r.Context(), node, types.StrategicMergePatchType, patch, metav1.PatchOptions{}); err != nil {
		r.Fatal(err)
	}
}
