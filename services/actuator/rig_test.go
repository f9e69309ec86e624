package actuator_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube"
	"github.com/selfheal/selfheal/pkg/kube/kubetest"
	"github.com/selfheal/selfheal/services/actuator"
	"github.com/selfheal/selfheal/services/actuator/internal/webhook"
)

var options = kubetest.Options{Args: []string{
	"--backoff-base=5s", "--heartbeat=1s", "--node-monitor-grace-period=4s",
}}

func TestMain(m *testing.M) {
	flag.Parse()
	// The tests spend their time waiting for a control plane, so many more can
	// be under way than there are processors.
	chosen := false
	flag.Visit(func(f *flag.Flag) { chosen = chosen || f.Name == "test.parallel" })
	if !chosen {
		if err := flag.Set("test.parallel", "12"); err != nil {
			panic(err) // the package testing has the flag
		}
	}
	code := kubetest.Main(m, options)
	stopWards()
	os.Exit(code)
}

// wards are further clusters, for tests about nodes, one test at a time in
// each: what is wrong with one node counts for all of a cluster. A cluster is
// started when it is first needed.
var wards = func() chan *kubetest.Cluster {
	c := make(chan *kubetest.Cluster, 3)
	for range cap(c) {
		c <- nil
	}
	return c
}()

// ward gives the test a cluster of its own until it ends.
func ward(t testing.TB) *kubetest.Cluster {
	t.Helper()
	c := <-wards
	t.Cleanup(func() { wards <- c })
	if c == nil {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		var err error
		if c, err = kubetest.Start(ctx, options); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// stopWards stops them when no test runs any more.
func stopWards() {
	var all sync.WaitGroup
	for range cap(wards) {
		if c := <-wards; c != nil {
			all.Go(c.Stop)
		}
	}
	all.Wait()
}

// user is whom the actuators of the tests are: they have no more rights than
// the actuator says that it needs.
const user = "actuator-under-test"

// A rig is a message bus of the test's own and a namespace of a cluster. Its actuators are known in the audit log by their agent.
type rig struct {
	t       testing.TB
	cluster *kubetest.Cluster
	admin   kubernetes.Interface
	ns      string
	server  *bustest.Server
	bus     *bus.Bus // publishes decisions
	agent   string
	trusted string // the folder of the keys of which its actuators take decisions; empty: they take any

	mu      sync.Mutex // guards what follows
	results []heal.Result
	changed chan struct{} // closed and replaced when a result comes
}

var agents atomic.Int64

func newRig(t testing.TB) *rig {
	t.Helper()
	return rigOn(t, bustest.Start(t), kubetest.Get(t))
}

// nodeRig is a rig on a cluster of the test's own.
func nodeRig(t testing.TB) *rig {
	t.Helper()
	return rigOn(t, bustest.Start(t), ward(t))
}

func rigOn(t testing.TB, server *bustest.Server, c *kubetest.Cluster) *rig {
	t.Helper()
	r := &rig{
		t: t, cluster: c, admin: c.Client(t), ns: c.Namespace(t), server: server,
		agent:   fmt.Sprintf("actuator-%d-of-%s", agents.Add(1), strings.ReplaceAll(t.Name(), "/", "_")),
		changed: make(chan struct{}),
	}
	r.bus = server.Bus(t, "analyzer")
	grant(t, r.admin)
	r.background(r.seeClearly)
	listener := server.Bus(t, "notifier")
	r.background(func(ctx context.Context) error {
		return bus.Results.Consume(ctx, listener, bus.Consumer{Name: "notifier"}, func(_ context.Context, m bus.Message[heal.Result]) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.results = append(r.results, m.Data)
			close(r.changed)
			r.changed = make(chan struct{})
			return nil
		})
	})
	return r
}

// seeClearly says again and again, as a watcher would, that it sees well.
func (r *rig) seeClearly(ctx context.Context) error {
	store := bus.NewStore[heal.Observer](r.server.Bus(r.t, "watcher"), bus.ObserversBucket)
	id := heal.ID("o", r.agent)
	tick := time.NewTicker(heal.ObserverBeat / 3)
	defer tick.Stop()
	for {
		now := time.Now().UTC()
		o := heal.Observer{ID: id, State: heal.ObserverClear, Doubts: []heal.Doubt{}, Since: now, SeenAt: now}
		if _, rev, err := store.Get(ctx, id); err == nil {
			_, _ = store.Update(ctx, id, o, rev) // the next beat does, if this one is lost
		} else {
			_, _ = store.Create(ctx, id, o)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// grant gives the actuators' user the rights that actuator.Rules asks for.
func grant(t testing.TB, k kubernetes.Interface) {
	t.Helper()
	_, err := k.RbacV1().ClusterRoles().Create(t.Context(), &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: user}, Rules: actuator.Rules(),
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	_, err = k.RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: user},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
}

// background runs f until the test ends, or the returned function is called.
func (r *rig) background(f func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := f(ctx); err != nil {
			r.t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		<-ended
	})
	r.t.Cleanup(stop)
	return stop
}

// pause waits, unless ctx is done first.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// quick is a config with which tests do not take minutes.
func quick() actuator.Config {
	return actuator.Config{
		Mode: heal.ModeAuto, RecoveryTimeout: 30 * time.Second, VerifyWindow: 2 * time.Second,
		HealthCheckInterval: 500 * time.Millisecond, Workers: 8,
		MaxPodActionsNamespace: 100, MaxPodActionsCluster: 1000,
	}
}

// start runs an actuator until the test ends, or stop is called. Its client may
// be changed first.
func (r *rig) start(cfg actuator.Config, change ...func(*rest.Config)) (stop func()) {
	r.t.Helper()
	stop, _ = r.startShown(cfg, change...)
	return stop
}

// startShown is like start. What is returned as well waits until the actuator
// shows that it is paused, or that it is not.
func (r *rig) startShown(cfg actuator.Config, change ...func(*rest.Config)) (stop func(), shows func(paused bool)) {
	r.t.Helper()
	return r.run(cfg, nil, change...)
}

// startWith is like start, with somebody who restarts and replaces machines.
func (r *rig) startWith(cfg actuator.Config, machines *webhook.Client) (stop func()) {
	r.t.Helper()
	stop, _ = r.run(cfg, machines)
	return stop
}

func (r *rig) run(cfg actuator.Config, machines *webhook.Client, change ...func(*rest.Config)) (stop func(), shows func(paused bool)) {
	r.t.Helper()
	config, err := r.cluster.RESTConfig()
	if err != nil {
		r.t.Fatal(err)
	}
	config.UserAgent = r.agent
	config.Impersonate = rest.ImpersonationConfig{UserName: user}
	for _, c := range change {
		c(config)
	}
	client, err := kube.Client(config)
	if err != nil {
		r.t.Fatal(err)
	}
	watches, err := kube.WatchClient(config)
	if err != nil {
		r.t.Fatal(err)
	}
	b := r.server.Connect(r.t, bus.Options{Service: "actuator", TrustedKeys: r.trusted})
	if err := b.Provision(r.t.Context()); err != nil {
		r.t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(lines{r.t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var shown atomic.Pointer[bool]
	stop = r.background(func(ctx context.Context) error {
		return actuator.Run(ctx, cfg, actuator.Deps{
			Bus: b, Kube: client, Watch: watches, Log: log, Paused: func(on bool) { shown.Store(&on) }, Machines: machines,
		})
	})
	return stop, func(paused bool) {
		r.t.Helper()
		kubetest.Eventually(r.t, 20*time.Second, func(context.Context) error {
			if on := shown.Load(); on == nil || *on != paused {
				return fmt.Errorf("it is not shown that paused is %v", paused)
			}
			return nil
		})
	}
}

// lines is the test's own output.
type lines struct{ t testing.TB }

func (l lines) Write(b []byte) (int, error) {
	l.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

var episodes atomic.Int64

// decide makes a decision about a pod or node, as the analyzer would.
func decide(target heal.Target, typ heal.FailureType, strategy heal.Strategy) heal.Decision {
	now := time.Now()
	f := heal.Failure{
		Type: typ, Reason: "CrashLoopBackOff", Severity: typ.BaseSeverity(), ResourceName: target.Name, Namespace: target.Namespace,
		Description: "container app is in CrashLoopBackOff", Timestamp: heal.Unix{Time: now}, Target: target, Detector: "crash_loop",
		Fingerprint: heal.MakeFingerprint(typ, target, heal.Target{}, "app", "CrashLoopBackOff"),
		EpisodeID:   heal.ID("e", fmt.Sprint(episodes.Add(1)), now.String()), Occurrence: 1, FirstSeen: now.Add(-10 * time.Second),
		Evidence: []heal.Evidence{},
	}
	if typ == heal.NodeFailure {
		f.Reason, f.Detector = "NodeStatusUnknown", "node_not_ready"
	}
	return heal.Decision{
		ID: heal.MakeDecisionID(f), IncidentID: f.IncidentID(), Type: typ, Severity: f.Severity, BaseSeverity: f.Severity,
		Strategy: strategy, ActionType: typ.ActionType(), Mode: heal.ModeAuto, Reason: heal.ReasonSeverityTable,
		Expires: now.Add(4 * time.Minute), Target: target, Parameters: map[string]string{}, Cause: heal.Cause{Kind: heal.CauseUnknown},
		Policy: heal.PolicyRef{Name: "default", Revision: "sha256:0", Rule: string(typ)}, Guards: []heal.Verdict{}, Failure: f,
	}
}

func restartOf(p *corev1.Pod) heal.Decision {
	return decide(podTarget(p), heal.PodFailure, heal.Restart)
}

func podTarget(p *corev1.Pod) heal.Target {
	return heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)}
}

func nodeTarget(n *corev1.Node) heal.Target {
	return heal.Target{APIVersion: "v1", Kind: "Node", Name: n.Name, UID: string(n.UID)}
}

func (r *rig) publish(d heal.Decision) {
	r.t.Helper()
	if err := bus.Decisions.Publish(r.t.Context(), r.bus, d); err != nil {
		r.t.Fatal(err)
	}
}

// publishEvent stores e as it is, under an id that the stream has not seen: as
// a message that comes again.
func (r *rig) publishEvent(e heal.Event[heal.Decision]) {
	r.t.Helper()
	body, err := json.Marshal(e)
	if err != nil {
		r.t.Fatal(err)
	}
	r.server.PublishRaw(r.t, e.Data.Head().Subject(r.bus.Cluster()), map[string][]string{"Content-Type": {heal.ContentType}}, body)
}

// settled waits until the actuators have no decision left.
func (r *rig) settled() {
	r.t.Helper()
	stream, err := r.server.JetStream(r.t).Stream(r.t.Context(), bus.Decisions.Stream)
	if err != nil {
		r.t.Fatal(err)
	}
	kubetest.Eventually(r.t, time.Minute, func(ctx context.Context) error {
		cons, err := stream.Consumer(ctx, actuator.Name)
		if err != nil {
			return err
		}
		if i := cons.CachedInfo(); i.NumPending > 0 || i.NumAckPending > 0 {
			return fmt.Errorf("%d decisions wait, %d are under way", i.NumPending, i.NumAckPending)
		}
		return nil
	})
}

func zero() *resource.Quantity { return resource.NewQuantity(0, resource.DecimalSI) }

// result waits for the result of d.
func (r *rig) result(d heal.Decision, within time.Duration) heal.Result {
	r.t.Helper()
	patience := time.After(within)
	for {
		r.mu.Lock()
		i := slices.IndexFunc(r.results, func(x heal.Result) bool { return x.Decision.ID == d.ID })
		var found heal.Result
		if i >= 0 {
			found = r.results[i]
		}
		changed := r.changed
		r.mu.Unlock()
		if i >= 0 {
			return found
		}
		select {
		case <-changed:
		case <-patience:
			r.t.Fatalf("no result of %s within %s", d.ID, within)
		}
	}
}

// carryOut publishes d and waits for its result.
func (r *rig) carryOut(d heal.Decision) heal.Result {
	r.t.Helper()
	r.publish(d)
	return r.result(d, time.Minute)
}

// told is how many results of d were told.
func (r *rig) told(d heal.Decision) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, x := range r.results {
		if x.Decision.ID == d.ID {
			n++
		}
	}
	return n
}

// ended is what of a result most tests are about.
type ended struct {
	Outcome heal.Outcome
	Reason  string
}

func end(res heal.Result) ended { return ended{res.Outcome, res.Reason} }

// writes are the rig's changes of the cluster: neither dry runs nor refused.
func (r *rig) writes() []kubetest.AuditEvent {
	r.t.Helper()
	return slices.DeleteFunc(r.attempts(), func(e kubetest.AuditEvent) bool { return e.DryRun || e.Code >= 300 })
}

// attempts are all its write requests.
func (r *rig) attempts() []kubetest.AuditEvent {
	r.t.Helper()
	return r.cluster.MutationsBy(r.t, r.agent)
}

// noWrites fails the test if the rig's actuators have sent any write, be it
// refused or a dry run.
func (r *rig) noWrites() {
	r.t.Helper()
	if sent := r.attempts(); len(sent) > 0 {
		r.t.Errorf("the API server was sent %v, want nothing", sent)
	}
}

// deploy makes a Deployment of replicas pods and waits for them to exist.
func (r *rig) deploy(name, image string, replicas int32, change ...func(*appsv1.Deployment)) []corev1.Pod {
	r.t.Helper()
	labels := map[string]string{"app": name}
	d := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: r.ns},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				Containers: []corev1.Container{{Name: "app", Image: image}},
			}},
		},
	}
	for _, c := range change {
		c(d)
	}
	if _, err := r.admin.AppsV1().Deployments(r.ns).Create(r.t.Context(), d, metav1.CreateOptions{}); err != nil {
		r.t.Fatal(err)
	}
	var pods []corev1.Pod
	kubetest.Eventually(r.t, 30*time.Second, func(ctx context.Context) error {
		list, err := r.admin.CoreV1().Pods(r.ns).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return err
		}
		pods = list.Items
		if len(pods) != int(replicas) {
			return fmt.Errorf("%d pods of %d", len(pods), replicas)
		}
		return nil
	})
	return pods
}

func isReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// ready waits until the pods are Ready, and returns them as they are then.
func (r *rig) ready(pods []corev1.Pod) []corev1.Pod {
	r.t.Helper()
	for i := range pods {
		pods[i] = *r.until(&pods[i], "Ready", isReady)
	}
	return pods
}

// await waits for the object of that name to be as wanted.
func await[O any](r *rig, name, what string, as func(O) bool, get func(context.Context, string, metav1.GetOptions) (O, error)) O {
	r.t.Helper()
	var now O
	kubetest.Eventually(r.t, time.Minute, func(ctx context.Context) (err error) {
		if now, err = get(ctx, name, metav1.GetOptions{}); err != nil {
			return err
		}
		if !as(now) {
			return fmt.Errorf("%s is not %s: %+v", name, what, now)
		}
		return nil
	})
	return now
}

// until waits for the pod to be as wanted.
func (r *rig) until(p *corev1.Pod, what string, as func(*corev1.Pod) bool) *corev1.Pod {
	r.t.Helper()
	return await(r, p.Name, what, as, r.admin.CoreV1().Pods(p.Namespace).Get)
}

func crashLoops(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Waiting != nil && s.State.Waiting.Reason == "CrashLoopBackOff"
	})
}

// crash makes one pod crash, though not its replacement, and waits until it loops.
func (r *rig) crash(p corev1.Pod) *corev1.Pod {
	r.t.Helper()
	if err := r.cluster.SetBehaviour(r.t.Context(), p.Namespace, p.Name, "crash"); err != nil {
		r.t.Fatal(err)
	}
	return r.until(&p, "in a crash loop", crashLoops)
}

// gone reports as an error that the pod is there.
func (r *rig) gone(p *corev1.Pod) func(context.Context) error {
	return func(ctx context.Context) error {
		now, err := r.admin.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || err == nil && now.UID != p.UID {
			return nil
		}
		return errors.Join(err, fmt.Errorf("pod %s is still there", p.Name))
	}
}
