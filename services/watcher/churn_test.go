package watcher_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/watcher"
)

var churnFor = flag.Duration("churn", 25*time.Second, "how long the churn test goes on")

// churn is a busy and healthy cluster. Every move of it is one that people and
// their tools make every day; each waits for what the move leads to.
type churn struct {
	*kubetest.Cluster
	kube   kubernetes.Interface
	ns     string
	until  time.Time     // when no further round begins
	load   *atomic.Int64 // on every pod, in thousandths of a core
	writes *atomic.Int64 // requests of the moves that change something
}

// churnPatience allows for a machine that does much else, and for a job whose
// pods are drained again and again: its controller waits twice as long each time.
const churnPatience = 10 * time.Minute

func TestNothingIsPublishedAboutABusyHealthyCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	starting, cancel := context.WithTimeout(t.Context(), churnPatience)
	defer cancel()
	cluster, err := kubetest.Start(starting, kubetest.Options{Nodes: churnNodes})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Stop)
	c := &churn{Cluster: cluster, ns: cluster.Namespace(t), load: new(atomic.Int64), writes: new(atomic.Int64)}
	config := reach(t, cluster)
	config.Wrap(c.count)
	if c.kube, err = kubernetes.NewForConfig(config); err != nil {
		t.Fatal(err)
	}
	c.load.Store(1)
	serveMetrics(t, cluster.Client(t), c.load)

	server := bustest.Start(t)
	events := read(t, server)
	r := run(t, watcher.Config{
		HealthCheckInterval: time.Second, RecoveryTimeout: time.Second,
		PodCheckInterval: c.interval(), PodRestartThreshold: 5,
		NodeCheckInterval: churnNodeInterval, NodeFailureThreshold: 3,
		UsageThreshold: 80,
	}, reach(t, cluster), server.Bus(t, watcher.Name))
	kubetest.Eventually(t, churnPatience, func(context.Context) error {
		return errors.Join(r.check("k8s_connection"), r.check("monitoring_active"))
	})

	began := time.Now()
	c.until = began.Add(*churnFor)
	told := &verdict{wrongly: map[string]bool{}, rightly: map[string]bool{}}
	running, ctx := errgroup.WithContext(t.Context())
	for _, m := range moves {
		running.Go(func() error { return c.repeat(ctx, t, m, told, events) })
	}
	// In the middle of it all something really fails, and is told of: the
	// watcher does see what happens here.
	running.Go(func() error {
		c.linger(ctx, *churnFor/3)
		return c.fail(ctx, t, events)
	})
	if err := running.Wait(); err != nil {
		t.Error(err)
	}
	told.judge(t, events.all())
	t.Logf("%s of churn: %d changes by %d moves, %d objects made in all; failures published about what is well: %d, about what is not: %d",
		time.Since(began).Round(time.Second), c.writes.Load(), len(moves), made(t, c), len(told.wrongly), len(told.rightly))
}

// interval is the pod_check_interval: the default, unless that is too long to
// wait until something is told of.
func (c *churn) interval() time.Duration {
	return min(30*time.Second, max(15*time.Second, *churnFor/10))
}

// count counts requests that change something.
func (c *churn) count(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method != http.MethodGet {
			c.writes.Add(1)
		}
		return next.RoundTrip(r)
	})
}

// repeat makes a move again and again. A round that does not come to its end
// is another one's beginning, as with people; three in a row are too many.
func (c *churn) repeat(ctx context.Context, t *testing.T, m move, told *verdict, events *reader) error {
	failed := 0
	for round := 0; ; round++ {
		err := m.round(c, ctx, round)
		told.judge(t, events.all())
		if err == nil {
			failed = 0
		} else if failed++; failed == 3 || ctx.Err() != nil {
			return fmt.Errorf("%s, round %d: %w", m.name, round, err)
		} else {
			t.Logf("%s, round %d: %v", m.name, round, err)
		}
		if err == nil && !time.Now().Before(c.until) {
			t.Logf("%s: %d rounds, until %s after the end", m.name, round+1, time.Since(c.until).Round(time.Second))
			return nil
		}
		c.linger(ctx, restAfter)
	}
}

// A wrong is what is not well, and what is to be told of it.
type wrong struct {
	name         string
	do           func(c *churn, ctx context.Context) error
	kind, reason string
}

var wrongs = []wrong{
	{"an image that has no name", func(c *churn, ctx context.Context) error {
		return c.createPod(ctx, "misnamed", "shop/api:invalid-image", nil)
	}, "Pod", "InvalidImageName"},
	{"a deployment whose pods crash", func(c *churn, ctx context.Context) error {
		d := newDeployment("crashing", 1)
		d.Spec.Template.Spec.Containers[0].Image = "shop/api:broken"
		_, err := c.kube.AppsV1().Deployments(c.ns).Create(ctx, d, metav1.CreateOptions{})
		return err
	}, "Pod", "CrashLoopBackOff"},
	{"a pod that its kubelet evicts", func(c *churn, ctx context.Context) error {
		if err := c.deploy(ctx, "greedy", 1); err != nil {
			return err
		}
		pods, err := c.kube.CoreV1().Pods(c.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=greedy"})
		if err != nil {
			return err
		}
		return c.SetBehaviour(ctx, c.ns, pods.Items[0].Name, "evicted")
	}, "Pod", "Evicted"},
	{"a job that gives up", func(c *churn, ctx context.Context) error {
		none := int32(0)
		return c.job(ctx, "fails", "exit-3", func(s *batchv1.JobSpec) { s.BackoffLimit = &none })
	}, "Job", "BackoffLimitExceeded"},
	{"a service whose port leads nowhere", func(c *churn, ctx context.Context) error {
		if err := c.deploy(ctx, "web", 1); err != nil {
			return err
		}
		s := newService("web", map[string]string{"app": "web"})
		s.Spec.Ports[0].TargetPort = intstr.FromString("http")
		return c.service(ctx, s)
	}, "Service", "PortMismatch"},
	{"a node that falls silent", func(c *churn, ctx context.Context) error {
		if err := c.AddNode(ctx, brokenNode, "zone-1", nil); err != nil {
			return err
		}
		// Nothing else is to run there: what is on a silent node is not told of.
		if err := c.patchNode(ctx, brokenNode, `{"spec":{"taints":[{"key":"example.com/dedicated","effect":"NoSchedule"}]}}`); err != nil {
			return err
		}
		if err := wait(ctx, func() error { return c.nodeReady(ctx, brokenNode, corev1.ConditionTrue, 0) }); err != nil {
			return err
		}
		return c.StopNode(ctx, brokenNode)
	}, "Node", "NodeStatusUnknown"},
}

// Where everything is that is not well.
const (
	brokenNamespace = "broken"
	brokenNode      = "broken-node"
)

// fail has everything go wrong, waits until all of it is told of, takes it
// away, and waits until that is told of too.
func (c *churn) fail(ctx context.Context, t *testing.T, events *reader) error {
	c = c.in(brokenNamespace)
	if err := c.namespace(ctx, c.ns); err != nil {
		return err
	}
	running, ctx := errgroup.WithContext(ctx)
	for _, w := range wrongs {
		running.Go(func() error {
			began := time.Now()
			if err := w.do(c, ctx); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			err := wait(ctx, func() error {
				told := func(f heal.Failure) bool { return f.Target.Kind == w.kind && f.Reason == w.reason && broken(f) }
				if !slices.ContainsFunc(events.all(), told) {
					return fmt.Errorf("%s: no %s of a %s is told of", w.name, w.reason, w.kind)
				}
				return nil
			})
			if err == nil {
				t.Logf("%s: told of after %s", w.name, time.Since(began).Round(time.Second))
			}
			return err
		})
	}
	if err := running.Wait(); err != nil {
		return err
	}
	ctx = t.Context() // running's is over
	for _, path := range []string{"/api/v1/namespaces/" + c.ns, "/api/v1/nodes/" + brokenNode} {
		if err := c.remove(ctx, path); err != nil {
			return err
		}
	}
	return wait(ctx, func() error {
		open := map[string]heal.Failure{}
		for _, f := range events.all() {
			if delete(open, f.EpisodeID); !f.Resolved() {
				open[f.EpisodeID] = f
			}
		}
		for _, f := range open {
			if broken(f) {
				return fmt.Errorf("nothing is told of the end of %s of %s", f.Reason, f.Target)
			}
		}
		return nil
	})
}

func broken(f heal.Failure) bool {
	return f.Namespace == brokenNamespace || f.Target.Kind == "Node" && f.Target.Name == brokenNode
}

// A verdict is what the failures told so far are worth.
type verdict struct {
	mu      sync.Mutex      // guards what follows
	judged  int             // of all there are
	wrongly map[string]bool // episodes
	rightly map[string]bool
}

// judge takes in what is told, in order, and fails t for every episode that is
// about nothing that is wrong.
func (v *verdict) judge(t *testing.T, told []heal.Failure) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, f := range told[min(v.judged, len(told)):] {
		v.judged++
		switch {
		case broken(f):
			v.rightly[f.EpisodeID] = true
		case !v.wrongly[f.EpisodeID]:
			v.wrongly[f.EpisodeID] = true
			t.Errorf("published about what is well: %+v", f)
		}
	}
}

// made is how many objects were made by whomever, as the API server counts.
func made(t *testing.T, c *churn) (n int) {
	t.Helper()
	text, err := c.kube.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "apiserver_request_total{") || !strings.Contains(line, `code="201"`) ||
			!strings.Contains(line, `verb="POST"`) || !strings.Contains(line, `subresource=""`) ||
			strings.Contains(line, `resource="events"`) || strings.Contains(line, `group="authentication.k8s.io"`) || strings.Contains(line, `group="authorization.k8s.io"`) {
			continue
		}
		_, value, _ := strings.Cut(line, "} ")
		count, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		if err != nil {
			t.Fatal(err)
		}
		n += int(count)
	}
	return n
}

// runs reports why a pod does not run.
func (c *churn) runs(ctx context.Context, name string) error {
	p, err := c.kube.CoreV1().Pods(c.ns).Get(ctx, name, metav1.GetOptions{})
	if err == nil && p.Status.Phase != corev1.PodRunning {
		err = fmt.Errorf("pod %s is %s", name, p.Status.Phase)
	}
	return err
}

// ignoreGone is err, unless it says that a drain was quicker.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// wait asks until check returns nil, or for so long that nothing can be
// expected any more.
func wait(ctx context.Context, check func() error) error {
	ctx, cancel := context.WithTimeout(ctx, churnPatience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("still: %w", err)
		case <-tick.C:
		}
	}
}

func churnPod(name, image string, selector map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PodSpec{
		NodeSelector: selector, Containers: []corev1.Container{{Name: "app", Image: image}},
	}}
}

func (c *churn) createPod(ctx context.Context, name, image string, selector map[string]string) error {
	_, err := c.kube.CoreV1().Pods(c.ns).Create(ctx, churnPod(name, image, selector), metav1.CreateOptions{})
	return err
}

// deploy makes a deployment, unless it is there, and waits until it is as it
// should be.
func (c *churn) deploy(ctx context.Context, name string, replicas int32) error {
	return c.deployAs(ctx, name, replicas)
}

func (c *churn) deployAs(ctx context.Context, name string, replicas int32, edit ...func(*appsv1.Deployment)) error {
	d := newDeployment(name, replicas)
	for _, change := range edit {
		change(d)
	}
	if err := unlessExists(c.kube.AppsV1().Deployments(c.ns).Create(ctx, d, metav1.CreateOptions{})); err != nil {
		return err
	}
	return c.complete(ctx, name)
}

func newDeployment(name string, replicas int32) *appsv1.Deployment {
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.DeploymentSpec{Replicas: &replicas, Selector: selectorOf(name), Template: templateOf(name, "shop/api:good")},
	}
}

// complete waits until the deployment is as its spec says.
func (c *churn) complete(ctx context.Context, name string) error {
	return wait(ctx, func() error {
		d, err := c.kube.AppsV1().Deployments(c.ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		s, want := d.Status, *d.Spec.Replicas
		if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != want || s.AvailableReplicas != want || s.Replicas != want {
			return fmt.Errorf("deployment %s: %d replicas, %d updated, %d available; want %d", name, s.Replicas, s.UpdatedReplicas, s.AvailableReplicas, want)
		}
		return nil
	})
}

func (c *churn) patchDeployment(ctx context.Context, name, patch string) error {
	_, err := c.kube.AppsV1().Deployments(c.ns).Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}
