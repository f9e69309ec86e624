package watch

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/selfheal/selfheal/test/bench/internal/cgroup"
	"github.com/selfheal/selfheal/test/bench/internal/process"
	"github.com/selfheal/selfheal/test/harness"
)

// The chart's limits of each service, and its NATS server's.
const (
	limitMemory     = 256 << 20
	limitCores      = 0.2
	limitNATSMemory = 512 << 20
	limitNATSCores  = 1.0
)

const (
	steadyFor    = 2 * time.Minute // unless $BENCH_STEADY says otherwise
	stormInLimit = 1000
)

// measureLimits runs the four binaries and NATS within the chart's limits:
// first each service in its own, then all in those of one. A pod fails every
// second, and who plays kubelets and controllers puts another in the place of
// one that is evicted.
func (b *bench) measureLimits() {
	for _, together := range []bool{false, true} {
		b.cluster.stop()
		b.cluster, b.spare = openCluster(b.B, b.Size), 0 // with its pods whole again
		b.Limits = append(b.Limits, b.withinLimits(together))
	}
}

func (b *bench) withinLimits(together bool) Limits {
	l := Limits{Together: together, For: span(b.B, "BENCH_STEADY", steadyFor), CPU: map[string]float64{}, Waited: map[string]float64{}, Peak: map[string]int64{}}
	// Nine tenths of what the chart gives each, as its templates set it; of one
	// container for all five, what is left beside the others.
	memory := "230MiB"
	if together {
		memory = "48MiB"
	}
	policy := filepath.Join(b.TempDir(), "policy.yaml")
	if err := os.WriteFile(policy, []byte("name: bench\nguards: {actions_per_minute: 3000}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	b.Setenv("GOMEMLIMIT", memory)
	p := harness.Prepare(b, b.cluster.kubeconfig, map[string]string{
		"SELFHEAL_POLICY_FILE": policy, "HEALTH_CHECK_INTERVAL": "30", "POD_RESTART_THRESHOLD": "1", "RECOVERY_TIMEOUT": "60", "VERIFY_WINDOW": "3",
		"MAX_POD_ACTIONS_NAMESPACE": "600", "MAX_POD_ACTIONS_CLUSTER": "3000",
	}, harness.Services...)
	var groups map[string]*cgroup.Group
	defer func() { // a group can go when its processes are gone
		p.NATS.Kill()
		for _, name := range harness.Services {
			p.Kill(name)
		}
		for _, g := range groups {
			if err := g.Close(); err != nil {
				b.Error(err)
			}
		}
	}()
	pids := map[string]int{"NATS": p.NATS.PID()}
	for _, name := range harness.Services {
		p.Run(b, name)
		pids[name] = p.PID(name)
	}
	var err error
	if groups, err = confine(pids, together); err != nil {
		l.Free = err.Error()
	}
	for _, name := range harness.Services {
		b.ready(p, name, time.Now())
	}
	h, stop := listen(b.B, p.Bus(b))
	defer stop()
	ctx, cancel := context.WithCancel(b.Context())
	players := b.play(ctx)
	defer players.Wait()
	defer cancel()
	pass(b.Context(), settled)

	steady := int(l.For / time.Second)
	victims := b.victims(steady + stormInLimit)
	before, used := b.held(groups), b.usedBy(pids)
	began := time.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for _, v := range victims[:steady] {
		b.write(b.Context(), crashing(v.whole))
		<-tick.C
	}
	took := time.Since(began)
	upTo(b.Context(), patience, func() bool { return players.wrote(victims[:steady]) == steady })
	for name, after := range b.usedBy(pids) {
		l.CPU[name] = (after - used[name]).Seconds() / took.Seconds()
	}
	for name, after := range b.held(groups) {
		if periods := after.Periods - before[name].Periods; periods > 0 {
			l.Waited[name] = float64(after.Throttled-before[name].Throttled) / float64(periods)
		}
	}
	l.Wrote, l.Missed = players.times(victims[:steady])

	storm := victims[steady:]
	l.Storm, began = len(storm), time.Now()
	b.writeAll(storm)
	decided := func() (n int, last time.Time) {
		for _, v := range storm {
			if at, ok := h.decision(v.uid()); ok {
				n++
				if at.After(last) {
					last = at
				}
			}
		}
		return n, last
	}
	upTo(b.Context(), stormWithin, func() bool { n, _ := decided(); return n == len(storm) })
	n, last := decided()
	l.Late, l.Decided, l.Acted = len(storm)-n, last.Sub(began), players.wrote(storm)
	for name, pid := range pids {
		m, err := process.RSS(pid)
		if err != nil {
			b.Fatalf("%s ended: %v", name, err)
		}
		l.Peak[name] = m.Peak
	}
	for _, h := range b.held(groups) {
		l.Killed += h.Killed
	}
	return l
}

// confine puts the processes into groups with the chart's limits.
func confine(pids map[string]int, together bool) (map[string]*cgroup.Group, error) {
	groups := map[string]*cgroup.Group{}
	for name, pid := range pids {
		group, memory, cores := name, int64(limitMemory), limitCores
		switch {
		case together:
			group = "all"
		case name == "NATS":
			memory, cores = limitNATSMemory, limitNATSCores
		}
		if groups[group] == nil {
			g, err := cgroup.New(fmt.Sprintf("selfheal-bench-%d-%s", os.Getpid(), strings.ToLower(group)), memory, cores)
			if err != nil {
				return groups, err
			}
			groups[group] = g
		}
		if err := groups[group].Add(pid); err != nil {
			return groups, err
		}
	}
	return groups, nil
}

func (b *bench) held(groups map[string]*cgroup.Group) map[string]cgroup.Held {
	b.Helper()
	all := map[string]cgroup.Held{}
	for name, g := range groups {
		h, err := g.Held()
		if err != nil {
			b.Fatal(err)
		}
		all[name] = h
	}
	return all
}

func (b *bench) usedBy(pids map[string]int) map[string]time.Duration {
	b.Helper()
	all := map[string]time.Duration{}
	for name, pid := range pids {
		all[name] = b.used(pid)
	}
	return all
}

// writeAll makes pods crash as fast as the API server takes their statuses.
func (b *bench) writeAll(victims []victim) {
	next := make(chan victim)
	var wg sync.WaitGroup
	for range drivers {
		wg.Go(func() {
			for v := range next {
				if _, err := b.cluster.kube.CoreV1().Pods(v.whole.Namespace).UpdateStatus(b.Context(), crashing(v.whole), metav1.UpdateOptions{}); err != nil {
					b.Errorf("write the status of %s/%s: %v", v.whole.Namespace, v.whole.Name, err)
				}
			}
		})
	}
	for _, v := range victims {
		next <- v
	}
	close(next)
	wg.Wait()
}

// crashing is a pod as its kubelet reports it when a container has crashed once.
func crashing(p *corev1.Pod) *corev1.Pod {
	p = invalid(p)
	c := &p.Status.ContainerStatuses[0]
	c.RestartCount = 1
	c.State = corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: "back-off 10s restarting failed container"}}
	c.LastTerminationState = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Reason: "Error", FinishedAt: metav1.Now()}}
	return p
}

// players are kubelets and controllers, as far as they are needed here, and
// what the watch by which they work has shown.
type players struct {
	sync.WaitGroup

	mu      sync.Mutex
	failed  map[string]time.Time // guarded by mu; by UID
	evicted map[string]time.Time // guarded by mu; by UID
}

// play has each pod that is evicted disappear, and another take its place,
// until ctx is done.
func (b *bench) play(ctx context.Context) *players {
	b.Helper()
	pods, err := b.cluster.kube.CoreV1().Pods("").List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		b.Fatal(err)
	}
	w, err := b.cluster.kube.CoreV1().Pods("").Watch(ctx, metav1.ListOptions{ResourceVersion: pods.ResourceVersion})
	if err != nil {
		b.Fatal(err)
	}
	p := &players{failed: map[string]time.Time{}, evicted: map[string]time.Time{}}
	gone := make(chan *corev1.Pod, 10_000) // more than there will be: the watch must not wait
	p.Go(func() {
		defer w.Stop()
		defer close(gone)
		for e := range w.ResultChan() {
			pod, ok := e.Object.(*corev1.Pod)
			if ok && p.note(pod, time.Now()) {
				gone <- pod
			}
		}
	})
	for range drivers {
		p.Go(func() {
			for pod := range gone {
				if err := b.replace(ctx, pod); err != nil && ctx.Err() == nil {
					b.Errorf("play the controllers of %s/%s: %v", pod.Namespace, pod.Name, err)
				}
			}
		})
	}
	return p
}

// note takes in what the watch shows, and reports whether a pod was evicted just now.
func (p *players) note(pod *corev1.Pod, now time.Time) (evicted bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	uid := string(pod.UID)
	if pod.Status.ContainerStatuses != nil && pod.Status.ContainerStatuses[0].RestartCount > 0 {
		first(p.failed, uid, now)
	}
	_, again := p.evicted[uid]
	if pod.DeletionTimestamp == nil || again {
		return false
	}
	p.evicted[uid] = now
	return true
}

// wrote is how many of the victims were evicted.
func (p *players) wrote(victims []victim) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, v := range victims {
		if _, ok := p.evicted[v.uid()]; ok {
			n++
		}
	}
	return n
}

// times are how long each eviction took from the failure on.
func (p *players) times(victims []victim) (took []time.Duration, missed int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range victims {
		if at, ok := p.evicted[v.uid()]; ok {
			took = append(took, at.Sub(p.failed[v.uid()]))
		} else {
			missed++
		}
	}
	return took, missed
}

// replace ends an evicted pod and puts another, that is well, in its place.
func (b *bench) replace(ctx context.Context, old *corev1.Pod) error {
	kube := b.cluster.kube.CoreV1()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: old.Spec.ServiceAccountName}} // asked for whenever a pod is created
	if _, err := kube.ServiceAccounts(old.Namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return err
	}
	now := metav1.Now()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: old.GenerateName, Namespace: old.Namespace, Labels: maps.Clone(old.Labels), Annotations: maps.Clone(old.Annotations), OwnerReferences: slices.Clone(old.OwnerReferences)},
		Spec:       *old.Spec.DeepCopy(),
	}
	created, err := kube.Pods(old.Namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	created.Status = *old.Status.DeepCopy()
	created.Status.StartTime = &now
	for i := range created.Status.Conditions {
		c := &created.Status.Conditions[i]
		c.Status, c.Reason, c.LastTransitionTime = corev1.ConditionTrue, "", now
	}
	for i := range created.Status.ContainerStatuses {
		c := &created.Status.ContainerStatuses[i]
		c.Ready, c.RestartCount, c.LastTerminationState = true, 0, corev1.ContainerState{}
		c.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: now}}
	}
	if _, err := kube.Pods(old.Namespace).UpdateStatus(ctx, created, metav1.UpdateOptions{}); err != nil {
		return err
	}
	return kube.Pods(old.Namespace).Delete(ctx, old.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(0)), Preconditions: metav1.NewUIDPreconditions(string(old.UID))})
}
