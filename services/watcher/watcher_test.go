package watcher_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher"
)

// quick makes everything happen soon, and announces once: further
// occurrences are the business of package episode's tests.
var quick = watcher.Config{
	HealthCheckInterval: time.Hour, RecoveryTimeout: time.Hour,
	PodCheckInterval: 100 * time.Millisecond, PodRestartThreshold: 5,
	NodeCheckInterval: 100 * time.Millisecond, NodeFailureThreshold: 3,
}

// slow never lets a hold pass.
var slow = watcher.Config{
	HealthCheckInterval: time.Hour, RecoveryTimeout: time.Hour,
	PodCheckInterval: time.Hour, PodRestartThreshold: 5,
	NodeCheckInterval: time.Hour, NodeFailureThreshold: 3,
}

// running is a watcher under test.
type running struct {
	logs    logs
	metrics *prometheus.Registry
	stop    func()

	mu     sync.Mutex
	checks map[string]func() error
	status func() map[string]any
}

func run(t testing.TB, cfg watcher.Config, kube *rest.Config, b *bus.Bus) *running {
	t.Helper()
	r := &running{metrics: prometheus.NewRegistry(), checks: map[string]func() error{}}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- watcher.Run(ctx, cfg, watcher.Deps{
			Bus: b, Kube: kube, Metrics: r.metrics, Log: slog.New(slog.NewJSONHandler(&r.logs, nil)),
			Check:  func(field string, check func() error) { r.mu.Lock(); defer r.mu.Unlock(); r.checks[field] = check },
			Status: func(fields func() map[string]any) { r.mu.Lock(); defer r.mu.Unlock(); r.status = fields },
		})
	}()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run ended with %v", err)
		}
		if t.Failed() {
			t.Logf("log of the watcher:\n%s", r.logs.String())
		}
	})
	t.Cleanup(r.stop)
	return r
}

func (r *running) check(field string) error {
	r.mu.Lock()
	check := r.checks[field]
	r.mu.Unlock()
	if check == nil {
		return errors.New("no such check yet")
	}
	return check()
}

// logs collects what is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// A reader holds every failure event that the stream has stored, in order.
type reader struct {
	t testing.TB

	mu   sync.Mutex
	raws []bus.Raw
}

func read(t testing.TB, s *bustest.Server) *reader {
	t.Helper()
	r := &reader{t: t}
	b := s.Bus(t, "test")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- b.Tail(ctx, time.Time{}, func(raw bus.Raw) error {
			if raw.Stream == bus.Failures.Stream {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.raws = append(r.raws, raw)
			}
			return nil
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("tail: %v", err)
		}
	})
	return r
}

// wait returns the first n events once there are so many.
func (r *reader) wait(n int) []heal.Failure {
	r.t.Helper()
	eventually(r.t, func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if len(r.raws) < n {
			return fmt.Errorf("%d events, want %d", len(r.raws), n)
		}
		return nil
	})
	return r.all()
}

func (r *reader) all() []heal.Failure {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var failures []heal.Failure
	for _, raw := range r.raws {
		e, err := heal.Decode[heal.Failure](raw.Data)
		if err != nil {
			r.t.Fatalf("message on %s: %v", raw.Subject, err)
		}
		failures = append(failures, e.Data)
	}
	return failures
}

func TestCrashLoopIsAnnouncedOnceByTwoWatchersAndResolvedWhenItIsOver(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	pod := healthyPod()
	pod.Status.ContainerStatuses[0].RestartCount = 6
	c := newCluster(t, replicaSet(), pod, node(corev1.ConditionTrue))
	a := run(t, quick, c.rest, server.Bus(t, watcher.Name))
	b := run(t, quick, c.rest, server.Bus(t, watcher.Name))
	sees(t, a, b)

	before := time.Now().Truncate(time.Millisecond)
	c.update(crashing(pod, 7))
	got := events.wait(1)[0]

	if got.FirstSeen.Before(before) || got.Timestamp.Sub(got.FirstSeen) < 2*quick.PodCheckInterval {
		t.Errorf("first seen %s, announced %s later; want it after %s and held for %s", got.FirstSeen, got.Timestamp.Sub(got.FirstSeen), before, 2*quick.PodCheckInterval)
	}
	owner := heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "checkout", UID: "uid-deploy"}
	want := heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium,
		ResourceName: "checkout-7d9f6c-x2kpl", Namespace: "shop",
		Description: "container api is in CrashLoopBackOff: 7 restarts, last exit 1",
		Target:      heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "checkout-7d9f6c-x2kpl", UID: string(pod.UID)},
		Owner:       owner,
		Node:        "n1.example.internal",
		Detector:    "crash_loop",
		Fingerprint: "pod_failure/shop/Deployment/checkout/api/CrashLoopBackOff",
		EpisodeID:   heal.MakeEpisodeID(bustest.Cluster, string(pod.UID), "crash_loop", "api", got.FirstSeen),
		Occurrence:  1,
		Evidence: []heal.Evidence{
			{Path: "status.containerStatuses[0].restartCount", Value: "7"},
			{Path: "status.containerStatuses[0].state.waiting.reason", Value: "CrashLoopBackOff"},
			{Path: "status.containerStatuses[0].lastState.terminated.reason", Value: "Error"},
			{Path: "status.containerStatuses[0].lastState.terminated.exitCode", Value: "1"},
			{Path: "status.containerStatuses[0].lastState.terminated.message", Value: "lookup orders-db: no such host, token=***"},
		},
		Metadata: map[string]string{"container": "api", "exit_code": "1", "last_reason": "Error", "restarts_in_window": "1"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(heal.Failure{}, "Timestamp", "FirstSeen"), cmpopts.IgnoreFields(heal.Target{}, "ResourceVersion")); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}

	healed := pod.DeepCopy()
	healed.Status.ContainerStatuses[0].RestartCount = 8
	c.update(healed)
	end := events.wait(2)[1]
	if !end.Resolved() || end.EpisodeID != got.EpisodeID {
		t.Errorf("second event = %+v, want the end of %s", end, got.EpisodeID)
	}
	a.stop()
	b.stop()
	if all := events.all(); len(all) != 2 {
		t.Errorf("%d events, want one beginning and one end: %+v", len(all), all)
	}
	events.mu.Lock()
	defer events.mu.Unlock()
	for _, raw := range events.raws {
		if want := "selfheal.v1.test.failures.pod_failure.shop.pod.checkout-7d9f6c-x2kpl"; raw.Subject != want {
			t.Errorf("subject %s, want %s", raw.Subject, want)
		}
		if bytes.Contains(raw.Data, []byte("canary")) {
			t.Errorf("something secret was copied into %s", raw.Data)
		}
	}
}

func TestRestartsInQuickSuccessionAreAnnouncedAtOnce(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	pod := healthyPod()
	c := newCluster(t, replicaSet(), pod)
	sees(t, run(t, slow, c.rest, server.Bus(t, watcher.Name)))

	for restarts := range int32(4) {
		c.update(crashing(pod, restarts))
	}
	got := events.wait(1)[0]
	if got.Metadata["restarts_in_window"] != "3" {
		t.Errorf("announced with metadata %v, want 3 restarts in the window", got.Metadata)
	}
}

func TestFailureThatLastsIsAnnouncedLessAndLessOftenAndAMomentOfCalmIsNotItsEnd(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	pod := healthyPod()
	c := newCluster(t, replicaSet(), pod)
	cfg := slow
	cfg.HealthCheckInterval, cfg.RecoveryTimeout = 300*time.Millisecond, 1200*time.Millisecond
	cfg.PodCheckInterval = 3 * time.Second // how long the pod must be well
	sees(t, run(t, cfg, c.rest, server.Bus(t, watcher.Name)))

	c.update(crashing(pod, 5))
	due := []time.Duration{0, 300 * time.Millisecond, 900 * time.Millisecond, 2100 * time.Millisecond, 3300 * time.Millisecond} // after the first
	last := func() heal.Failure { all := events.all(); return all[len(all)-1] }
	first := events.wait(1)[0]
	eventually(t, func() error {
		if n := last().Occurrence; n < len(due) {
			return fmt.Errorf("occurrence %d is the last, want %d", n, len(due))
		}
		return nil
	})
	c.update(pod) // for a moment
	c.update(crashing(pod, 6))
	calm := len(events.all())
	events.wait(calm + 2)
	well := time.Now()
	c.update(pod)
	eventually(t, func() error {
		if !last().Resolved() {
			return errors.New("its end is not told")
		}
		return nil
	})

	all := events.all()
	for i, f := range all {
		if f.EpisodeID != first.EpisodeID || f.Resolved() != (i == len(all)-1) {
			t.Errorf("event %d is %+v, want all to be of one episode, and the last its end", i, f)
		}
		if i > 0 && !f.Resolved() && f.Occurrence <= all[i-1].Occurrence {
			t.Errorf("occurrence %d after %d", f.Occurrence, all[i-1].Occurrence)
		}
		if n := f.Occurrence; n <= len(due) && f.Timestamp.Sub(first.Timestamp.Time) < due[n-1]-100*time.Millisecond { // the first was a little late
			t.Errorf("occurrence %d after %s, want it %s after the first", n, f.Timestamp.Sub(first.Timestamp.Time), due[n-1])
		}
	}
	if after := all[len(all)-1].ResolvedAt.Sub(well); after < cfg.PodCheckInterval-2*time.Millisecond {
		t.Errorf("resolved %s after it was well, want it to be so for %s", after, cfg.PodCheckInterval)
	}
}

func TestPodThatIsReplacedUnderItsNameEndsItsEpisode(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	pod := healthyPod()
	c := newCluster(t, replicaSet(), pod)
	sees(t, run(t, slow, c.rest, server.Bus(t, watcher.Name)))

	c.update(crashing(pod, 5))
	first := events.wait(1)[0]
	again := healthyPod()
	c.delete(pod)
	c.create(again)
	end := events.wait(2)[1]
	if !end.Resolved() || end.EpisodeID != first.EpisodeID || end.Target.UID != string(pod.UID) {
		t.Errorf("second event = %+v, want the end of %s", end, first.EpisodeID)
	}
}

func TestWhatHappenedWhileNoWatcherRanIsFoundAfterTheStart(t *testing.T) {
	tests := []struct {
		name string
		then func(c *cluster, pod *corev1.Pod)
		want func(first heal.Failure, later []heal.Failure) error
	}{
		{
			name: "the pod is gone: resolved",
			then: func(c *cluster, pod *corev1.Pod) { c.delete(pod) },
			want: resolved,
		},
		{
			name: "the pod is well: resolved",
			then: func(c *cluster, pod *corev1.Pod) { c.update(pod.DeepCopy()) },
			want: resolved,
		},
		{
			name: "still failing: the same episode goes on",
			then: func(*cluster, *corev1.Pod) {},
			want: func(first heal.Failure, later []heal.Failure) error {
				for _, f := range later {
					if f.EpisodeID != first.EpisodeID || f.Resolved() || f.Occurrence < 2 {
						return fmt.Errorf("%+v, want a further occurrence of %s", f, first.EpisodeID)
					}
				}
				return nil
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := bustest.Start(t)
			events := read(t, server)
			pod := healthyPod()
			c := newCluster(t, replicaSet(), pod)
			cfg := quick
			cfg.HealthCheckInterval = 500 * time.Millisecond
			a := run(t, cfg, c.rest, server.Bus(t, watcher.Name))
			sees(t, a)
			c.update(crashing(pod, 7))
			first := events.wait(1)[0]
			a.stop()
			n := len(events.all())

			tt.then(c, pod)
			run(t, cfg, c.rest, server.Bus(t, watcher.Name))
			if err := tt.want(first, events.wait(n + 1)[n:]); err != nil {
				t.Error(err)
			}
		})
	}
}

func resolved(first heal.Failure, later []heal.Failure) error {
	if len(later) != 1 || !later[0].Resolved() || later[0].EpisodeID != first.EpisodeID {
		return fmt.Errorf("%+v, want only the end of %s", later, first.EpisodeID)
	}
	return nil
}

func TestNothingIsLostWhileNATSIsAway(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	healing, failing := healthyPod(), healthyPod()
	failing.Name = "checkout-7d9f6c-other"
	c := newCluster(t, replicaSet(), healing, failing)
	r := run(t, quick, c.rest, server.Bus(t, watcher.Name))
	sees(t, r)
	c.update(crashing(healing, 7))
	first := events.wait(1)[0]

	server.Stop()
	c.update(crashing(failing, 7))
	c.delete(healing)
	eventually(t, func() error {
		if !strings.Contains(r.logs.String(), "failures cannot be published") {
			return errors.New("nothing is said about it in the log")
		}
		return nil
	})
	server.Restart(t)

	seen := map[string]bool{}
	for _, f := range events.wait(3)[1:] {
		switch {
		case f.EpisodeID == first.EpisodeID && f.Resolved():
			seen["end"] = true
		case f.Target.UID == string(failing.UID) && f.Occurrence == 1:
			seen["beginning"] = true
		}
	}
	if !seen["end"] || !seen["beginning"] {
		t.Errorf("events %+v, want the end of one episode and the beginning of another", events.all())
	}
	eventually(t, func() error {
		if !strings.Contains(r.logs.String(), "failures are published again") {
			return errors.New("its end is not logged")
		}
		return nil
	})
}

func TestNodeThatIsNotReadyIsAnnouncedAndItsPodsAreNot(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	pod := healthyPod()
	pod.Status.ContainerStatuses[0].RestartCount = 6
	c := newCluster(t, replicaSet(), pod, node(corev1.ConditionTrue))
	r := run(t, quick, c.rest, server.Bus(t, watcher.Name))
	sees(t, r)

	c.updateNode(node(corev1.ConditionUnknown))
	eventually(t, func() error { // the watches of nodes and pods are apart
		if testutil.ToFloat64(r.counter(t, "self_healing_observations_total", "type", "node_failure")) == 0 {
			return errors.New("the node's state has not arrived")
		}
		return nil
	})
	c.update(crashing(pod, 7))
	got := events.wait(1)[0]
	if got.Type != heal.NodeFailure || got.Reason != "NodeStatusUnknown" || got.Severity != heal.Critical ||
		got.Node != "n1.example.internal" || got.Target.Kind != "Node" || got.Owner != (heal.Target{}) {
		t.Errorf("event = %+v, want the node's failure", got)
	}
	if want := "selfheal.v1.test.failures.node_failure._.node.n1_example_internal"; events.raws[0].Subject != want {
		t.Errorf("subject %s, want %s", events.raws[0].Subject, want)
	}

	c.updateNode(node(corev1.ConditionTrue))
	later := events.wait(3)[1:]
	if !later[0].Resolved() || later[0].Type != heal.NodeFailure {
		t.Errorf("second event = %+v, want the end of the node's failure", later[0])
	}
	if later[1].Type != heal.PodFailure || later[1].FirstSeen.Before(got.Timestamp.Time) {
		t.Errorf("third event = %+v, want the pod's failure, seen since the node is back", later[1])
	}
}

// counter reads one series of the watcher's metrics.
func (r *running) counter(t testing.TB, name string, labels ...string) prometheus.Collector {
	t.Helper()
	families, err := r.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "found"})
	for _, f := range families {
		for _, m := range f.GetMetric() {
			got := map[string]string{}
			for _, l := range m.GetLabel() {
				got[l.GetName()] = l.GetValue()
			}
			matches := f.GetName() == name
			for i := 0; i < len(labels); i += 2 {
				matches = matches && got[labels[i]] == labels[i+1]
			}
			if matches {
				g.Add(m.GetCounter().GetValue())
			}
		}
	}
	return g
}

func TestOwnerThatCannotBeReadIsReplacedByTheDirectOneUntilItCan(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	pod := healthyPod()
	c := newCluster(t, replicaSet(), pod)
	cfg := quick
	cfg.HealthCheckInterval, cfg.RecoveryTimeout = 300*time.Millisecond, 300*time.Millisecond
	sees(t, run(t, cfg, c.as("without-replicasets", without("replicasets")), server.Bus(t, watcher.Name)))

	c.update(crashing(pod, 7))
	if got := events.wait(1)[0]; got.Owner.Kind != "ReplicaSet" || got.Fingerprint != "pod_failure/shop/ReplicaSet/checkout-7d9f6c/api/CrashLoopBackOff" {
		t.Errorf("owner %s, fingerprint %s; want the ReplicaSet", got.Owner, got.Fingerprint)
	}
	c.grant("without-replicasets", watcher.Rules())
	eventually(t, func() error {
		all := events.all()
		if last := all[len(all)-1]; last.Owner.Kind != "Deployment" {
			return fmt.Errorf("owner of occurrence %d is %s, want the Deployment", last.Occurrence, last.Owner)
		}
		return nil
	})
}

func TestWhatIsMissingIsToldByReadinessAndInTheLog(t *testing.T) {
	server := bustest.Start(t)
	c := newCluster(t)
	r := run(t, quick, c.as("without-nodes", without("nodes")), server.Bus(t, watcher.Name))

	eventually(t, func() error {
		said := fmt.Sprint(r.check("k8s_connection"))
		if !strings.Contains(said, "watch nodes") || strings.Contains(said, "pods") {
			return fmt.Errorf("k8s_connection says %q, want that nodes cannot be watched", said)
		}
		return nil
	})
	if err := r.check("monitoring_active"); err == nil {
		t.Error("monitoring_active before the nodes were read")
	}
	log := r.logs.String()
	for _, want := range []string{`"level":"ERROR"`, "the watcher's role lacks a rule", `"verb":"watch"`, `"resource":"nodes"`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %s:\n%s", want, log)
		}
	}
	c.grant("without-nodes", watcher.Rules())
	eventually(t, func() error { return errors.Join(r.check("k8s_connection"), r.check("monitoring_active")) })
}

func TestOneKindThatMayNotBeReadLeavesTheOthersBeingWatched(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	pod := healthyPod()
	c := newCluster(t, replicaSet(), pod)
	r := run(t, slow, c.as("without-deployments", without("deployments")), server.Bus(t, watcher.Name))
	eventually(t, func() error {
		if err := r.check("monitoring_active"); err == nil || strings.Count(err.Error(), "\n") > 0 || !strings.Contains(err.Error(), "deployments") {
			return fmt.Errorf("monitoring_active says %w, want that only deployments are missing", err)
		}
		return nil
	})

	c.update(crashing(pod, 5))
	if got := events.wait(1)[0]; got.Detector != "crash_loop" {
		t.Errorf("event = %+v, want the pod's failure", got)
	}
	eventually(t, func() error {
		err := r.check("k8s_connection")
		if err == nil || !strings.Contains(err.Error(), "watch deployments") || strings.Contains(err.Error(), "pods") {
			return fmt.Errorf("k8s_connection says %w, want that deployments cannot be watched", err)
		}
		return nil
	})
	if log := r.logs.String(); !strings.Contains(log, "the watcher's role lacks a rule") || !strings.Contains(log, `"resource":"deployments","group":"apps"`) {
		t.Errorf("the log does not say which rule is missing:\n%s", log)
	}
}

func TestStalledRolloutIsAnnouncedWithItsDeploymentAsTheTarget(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	d := deployment()
	c := newCluster(t, d)
	sees(t, run(t, quick, c.rest, server.Bus(t, watcher.Name)))

	stalled := d.DeepCopy()
	stalled.Annotations = map[string]string{"deployment.kubernetes.io/revision": "2", "note": "canary"}
	stalled.Status.Conditions[1] = appsv1.DeploymentCondition{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionFalse, Reason: "ProgressDeadlineExceeded"}
	c.updateDeployment(stalled)
	got := events.wait(1)[0]
	want := heal.Failure{
		Type: heal.DeploymentFailure, Reason: "ProgressDeadlineExceeded", Severity: heal.High, ResourceName: "checkout", Namespace: "shop",
		Description: "deployment checkout made no progress with its roll-out: 3 of 3 replicas available, 1 of the latest revision",
		Target:      heal.Target{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "shop", Name: "checkout", UID: string(d.UID)},
		Detector:    "deployment_stalled",
		Fingerprint: "deployment_failure/shop/Deployment/checkout/ProgressDeadlineExceeded",
		EpisodeID:   heal.MakeEpisodeID(bustest.Cluster, string(d.UID), "deployment_stalled", "", got.FirstSeen),
		Occurrence:  1,
		Evidence: []heal.Evidence{
			{Path: "status.conditions[1].status", Value: "False"},
			{Path: "status.conditions[1].reason", Value: "ProgressDeadlineExceeded"},
			{Path: "status.availableReplicas", Value: "3"},
			{Path: "status.updatedReplicas", Value: "1"},
		},
		Metadata: map[string]string{"revision": "2", "available": "3", "desired": "3", "updated": "1"},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(heal.Failure{}, "Timestamp", "FirstSeen"), cmpopts.IgnoreFields(heal.Target{}, "ResourceVersion")); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}

	c.updateDeployment(d.DeepCopy())
	if end := events.wait(2)[1]; !end.Resolved() || end.EpisodeID != got.EpisodeID {
		t.Errorf("second event = %+v, want the end of %s", end, got.EpisodeID)
	}
}

func TestMetricsAndStatusCountWhatWasPublished(t *testing.T) {
	server := bustest.Start(t)
	events := read(t, server)
	pod := healthyPod()
	c := newCluster(t, replicaSet(), pod)
	r := run(t, slow, c.rest, server.Bus(t, watcher.Name))
	sees(t, r)
	c.update(crashing(pod, 5))
	events.wait(1)
	c.delete(pod)
	events.wait(2)
	r.stop()

	want := `
# HELP self_healing_events_published_total Failure events stored on the bus.
# TYPE self_healing_events_published_total counter
`
	for _, t := range heal.FailureTypes {
		n := 0
		if t == heal.PodFailure {
			n = 1
		}
		want += fmt.Sprintf("self_healing_events_published_total{state=\"detected\",type=%q} %d\n", t, n)
		want += fmt.Sprintf("self_healing_events_published_total{state=\"resolved\",type=%q} %d\n", t, n)
	}
	if err := testutil.GatherAndCompare(r.metrics, strings.NewReader(want), "self_healing_events_published_total"); err != nil {
		t.Error(err)
	}
	if got := r.status()["failures_detected"]; got != int64(1) {
		t.Errorf("status says %v failures were detected, want 1", got)
	}
	for _, message := range []string{"failure detected", "failure resolved"} {
		if n := strings.Count(r.logs.String(), fmt.Sprintf("%q", message)); n != 1 {
			t.Errorf("%q is logged %d times, want once", message, n)
		}
	}
}

func TestWrongSettingsAreNamed(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(*watcher.Config)
		want  string
	}{
		{"no interval", func(c *watcher.Config) { c.PodCheckInterval = 0 }, "pod_check_interval: 0s is not a positive duration"},
		{"no timeout", func(c *watcher.Config) { c.RecoveryTimeout = -time.Second }, "recovery_timeout: -1s is not a positive duration"},
		{"no restarts", func(c *watcher.Config) { c.PodRestartThreshold = 0 }, "pod_restart_threshold: 0 is less than 1"},
		{"no intervals", func(c *watcher.Config) { c.NodeFailureThreshold = 0 }, "node_failure_threshold: 0 is less than 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := quick
			tt.spoil(&cfg)
			err := watcher.Run(t.Context(), cfg, watcher.Deps{})
			if !errors.Is(err, config.ErrSettings) || err.Error() != tt.want {
				t.Errorf("error %v, want settings error %q", err, tt.want)
			}
		})
	}
}

func TestWatcherAsksForNothingButReading(t *testing.T) {
	for _, r := range append(watcher.Rules(), watcher.NamespaceRules()...) {
		for _, verb := range r.Verbs {
			if !slices.Contains([]string{"get", "list", "watch"}, verb) {
				t.Errorf("rule %+v: want nothing but reading", r)
			}
		}
		if slices.Contains(r.Resources, "*") || slices.Contains(r.Resources, "secrets") || slices.Contains(r.Resources, "configmaps") {
			t.Errorf("rule %+v: want no right to read what may be secret", r)
		}
	}
	rule := func(group, resource string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}
	}
	has := func(rules []rbacv1.PolicyRule, want rbacv1.PolicyRule) bool {
		return slices.ContainsFunc(rules, func(r rbacv1.PolicyRule) bool { return cmp.Equal(r, want) })
	}
	for _, want := range []rbacv1.PolicyRule{
		rule("", "pods", "get", "list", "watch"),
		rule("apps", "deployments", "get", "list", "watch"),
		rule("apps", "replicasets", "get", "list", "watch"),
	} {
		if !has(watcher.Rules(), want) || !has(watcher.NamespaceRules(), want) {
			t.Errorf("rule %+v is missing", want)
		}
	}
	if nodes := rule("", "nodes", "get", "list", "watch"); !has(watcher.Rules(), nodes) || has(watcher.NamespaceRules(), nodes) {
		t.Error("nodes are watched by a watcher of the whole cluster, and by no other")
	}
}

func TestServiceIsCalledAsTheContractSays(t *testing.T) {
	if s := watcher.Service(); s.Name != "watcher" || s.Summary == "" || s.Run == nil {
		t.Errorf("service = %+v", s)
	}
}
