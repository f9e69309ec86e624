package sim

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"
)

// Config is what a Simulator needs besides a client.
type Config struct {
	Timing        Timing
	Heartbeat     time.Duration
	LeaseDuration time.Duration
	Capacity      corev1.ResourceList // of a node that does not state its own
}

const (
	podWorkers  = 16
	nodeWorkers = 4
	callTimeout = 5 * time.Second
	staleRetry  = 50 * time.Millisecond // the watch brings the newer object sooner
)

// Simulator is the kubelet of every simulated node of one cluster.
type Simulator struct {
	cfg    Config
	client kubernetes.Interface
	caches *caches
	pods   workqueue.TypedRateLimitingInterface[cache.ObjectName]
	nodes  workqueue.TypedRateLimitingInterface[string]
	events record.EventBroadcaster

	podIPs, nodeIPs *addresses

	mu       sync.Mutex // guards the maps; an entry is used by one worker at a time
	entries  map[cache.ObjectName]*entry
	leases   map[string]*coordinationv1.Lease
	recorder map[string]record.EventRecorder
}

// entry is what is remembered of one pod.
type entry struct {
	uid     types.UID
	ip      string // reserved for it
	memory  Memory
	written *corev1.Pod // as last written: the watch may not have brought it yet
}

// New makes a simulator; Run starts it.
func New(client kubernetes.Interface, cfg Config) *Simulator {
	return &Simulator{
		cfg: cfg, client: client,
		pods:     workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[cache.ObjectName](staleRetry, 2*time.Second)),
		nodes:    workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[string](staleRetry, time.Second)),
		podIPs:   newAddresses("10.128.0.0"),
		nodeIPs:  newAddresses("172.18.0.1"),
		entries:  make(map[cache.ObjectName]*entry),
		leases:   make(map[string]*coordinationv1.Lease),
		recorder: make(map[string]record.EventRecorder),
	}
}

// Run simulates until ctx ends.
func (s *Simulator) Run(ctx context.Context) error {
	s.events = record.NewBroadcaster(record.WithContext(ctx))
	s.events.StartRecordingToSink(sink(s.client))
	defer s.events.Shutdown()

	s.caches = newCaches(s.client, handlers{
		pod:    s.pods.Add,
		node:   s.nodes.Add,
		config: s.configChanged,
	})
	if err := s.caches.start(ctx); err != nil {
		return err
	}
	s.seedAddresses()

	var workers sync.WaitGroup
	for range podWorkers {
		workers.Go(func() { work(ctx, s.pods, s.syncPod) })
	}
	for range nodeWorkers {
		workers.Go(func() { work(ctx, s.nodes, s.syncNode) })
	}
	<-ctx.Done()
	s.pods.ShutDown()
	s.nodes.ShutDown()
	workers.Wait()
	return nil
}

// work handles one key after another; one that fails comes again after a growing delay.
func work[K comparable](ctx context.Context, queue workqueue.TypedRateLimitingInterface[K], sync func(context.Context, K) error) {
	for {
		key, shutdown := queue.Get()
		if shutdown {
			return
		}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		if err := sync(call, key); err != nil {
			klog.V(2).InfoS("try again", "key", key, "err", err)
			queue.AddRateLimited(key)
		} else {
			queue.Forget(key)
		}
		cancel()
		queue.Done(key)
	}
}

// configChanged lets the pods of a namespace look again for what they missed.
func (s *Simulator) configChanged(namespace string) {
	for _, p := range s.caches.podsIn(namespace) {
		if p.Status.Phase == corev1.PodPending || p.Status.Phase == corev1.PodRunning {
			s.pods.Add(cache.MetaObjectToName(p))
		}
	}
}

func (s *Simulator) seedAddresses() {
	for _, p := range s.caches.allPods() {
		s.podIPs.taken(p.Status.PodIP)
	}
	for _, n := range s.caches.allNodes() {
		for _, a := range n.Status.Addresses {
			s.nodeIPs.taken(a.Address)
		}
	}
}

func (s *Simulator) syncPod(ctx context.Context, key cache.ObjectName) error {
	pod := s.caches.pod(key)
	if pod == nil {
		s.forget(key)
		return nil
	}
	node := s.caches.node(pod.Spec.NodeName)
	if node == nil {
		return nil // not ours, or gone
	}
	e := s.entry(key, pod.UID)
	if e.written != nil && newer(e.written, pod) {
		pod = e.written
	}
	facts := s.facts(e, pod, node)
	now := time.Now()
	v := Judge(s.cfg.Timing, facts, e.memory, now)
	if v.Status != nil {
		changed := *pod
		changed.Status = *v.Status
		written, err := s.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, &changed, metav1.UpdateOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return nil
		case apierrors.IsConflict(err):
			// Someone else wrote; what was judged is no longer so.
			s.pods.AddAfter(key, staleRetry)
			return nil
		case err != nil:
			return fmt.Errorf("write status of %s: %w", key, err)
		}
		e.written = written
	}
	e.memory = v.Memory
	for _, ev := range v.Events {
		s.recorderOn(pod.Spec.NodeName).Event(pod, ev.Type, ev.Reason, ev.Message)
	}
	if v.Delete {
		err := s.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: ptr.To[int64](0),
			Preconditions:      metav1.NewUIDPreconditions(string(pod.UID)),
		})
		switch {
		case apierrors.IsNotFound(err):
		case err == nil:
			// Under load the API server has taken one for done of which a pod without any grace left stayed.
			s.pods.AddAfter(key, callTimeout)
			return nil
		case apierrors.IsConflict(err):
			// Someone else wrote, or the pod is another one by now; a kubelet asks until it is gone, too.
			s.pods.AddAfter(key, staleRetry)
			return nil
		default:
			return fmt.Errorf("delete %s: %w", key, err)
		}
	}
	if !v.Wake.IsZero() {
		s.pods.AddAfter(key, v.Wake.Sub(now))
	}
	return nil
}

func (s *Simulator) entry(key cache.ObjectName, uid types.UID) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[key]
	if e == nil || e.uid != uid {
		e = &entry{uid: uid}
		s.entries[key] = e
	}
	return e
}

func (s *Simulator) forget(key cache.ObjectName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, key)
}

// newer compares two versions of one object.
func newer(a, b *corev1.Pod) bool {
	if a.UID != b.UID {
		return false
	}
	x, errA := strconv.ParseUint(a.ResourceVersion, 10, 64)
	y, errB := strconv.ParseUint(b.ResourceVersion, 10, 64)
	return errA == nil && errB == nil && x > y
}

func (s *Simulator) facts(e *entry, pod *corev1.Pod, node *corev1.Node) Facts {
	f := Facts{Pod: pod, NodeAlive: !Stopped(node)}
	for _, a := range node.Status.Addresses {
		if a.Type == corev1.NodeInternalIP {
			f.NodeIP = a.Address
		}
	}
	if f.NodeIP == "" {
		f.NodeAlive = false // its kubelet has not registered yet
	}
	if !f.NodeAlive {
		return f
	}
	if pod.Status.PodIP == "" && e.ip == "" {
		e.ip = s.podIPs.next()
	}
	f.PodIP = e.ip
	f.MissingConfig, f.MissingVolume = missing(pod, s.caches.keysOf)
	return f
}

func (s *Simulator) recorderOn(node string) record.EventRecorder {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.recorder[node]
	if r == nil {
		r = s.events.NewRecorder(podScheme(), corev1.EventSource{Component: "kubelet", Host: node})
		s.recorder[node] = r
	}
	return r
}

// syncNode is one heartbeat of one node.
func (s *Simulator) syncNode(ctx context.Context, name string) error {
	node := s.caches.node(name)
	if node == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.leases, name)
		delete(s.recorder, name)
		return nil
	}
	if Stopped(node) {
		return nil // its annotation's change brings it here again
	}
	if err := s.register(ctx, node); err != nil {
		return fmt.Errorf("register node %s: %w", name, err)
	}
	if status := JudgeNode(s.cfg.Capacity, s.nodeIP(node), node, time.Now()); status != nil {
		changed := *node
		changed.Status = *status
		_, err := s.client.CoreV1().Nodes().UpdateStatus(ctx, &changed, metav1.UpdateOptions{})
		if apierrors.IsConflict(err) {
			s.nodes.AddAfter(name, staleRetry)
			return nil
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("write status of node %s: %w", name, err)
		}
	}
	next, err := s.renew(ctx, node)
	if err != nil {
		return fmt.Errorf("renew lease of node %s: %w", name, err)
	}
	s.nodes.AddAfter(name, next)
	return nil
}

// nodeIP gives a node that has no address yet one of its own.
func (s *Simulator) nodeIP(node *corev1.Node) string {
	if len(node.Status.Addresses) > 0 {
		return ""
	}
	return s.nodeIPs.next()
}

// register adds what a kubelet adds to its Node when it joins.
func (s *Simulator) register(ctx context.Context, node *corev1.Node) error {
	want := identity(node)
	if len(want.labels) == 0 && want.providerID == node.Spec.ProviderID {
		return nil
	}
	patch, err := registrationPatch(want)
	if err != nil {
		return err
	}
	_, err = s.client.CoreV1().Nodes().Patch(ctx, node.Name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// renew writes the node's Lease if a heartbeat is due, and returns the time to the next.
func (s *Simulator) renew(ctx context.Context, node *corev1.Node) (time.Duration, error) {
	s.mu.Lock()
	lease := s.leases[node.Name]
	s.mu.Unlock()
	now := time.Now()
	if lease != nil && owns(node, lease) {
		if rest := lease.Spec.RenewTime.Add(s.cfg.Heartbeat).Sub(now); rest > 0 {
			return rest, nil
		}
	}
	lease, err := s.writeLease(ctx, node, lease, metav1.NewMicroTime(now))
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		delete(s.leases, node.Name) // read it again next time
		return 0, err
	}
	s.leases[node.Name] = lease
	return s.cfg.Heartbeat, nil
}

func (s *Simulator) writeLease(ctx context.Context, node *corev1.Node, lease *coordinationv1.Lease, now metav1.MicroTime) (*coordinationv1.Lease, error) {
	leases := s.client.CoordinationV1().Leases(corev1.NamespaceNodeLease)
	if lease == nil {
		read, err := leases.Get(ctx, node.Name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			return leases.Create(ctx, newLease(node, s.cfg.LeaseDuration, now), metav1.CreateOptions{})
		case err != nil:
			return nil, err
		}
		lease = read
	}
	renewed := lease.DeepCopy()
	renewed.OwnerReferences = newLease(node, s.cfg.LeaseDuration, now).OwnerReferences
	renewed.Spec.RenewTime = &now
	return leases.Update(ctx, renewed, metav1.UpdateOptions{})
}

func owns(node *corev1.Node, lease *coordinationv1.Lease) bool {
	return len(lease.OwnerReferences) == 1 && lease.OwnerReferences[0].UID == node.UID
}

// newLease belongs to its node, so that it goes when the node does.
func newLease(node *corev1.Node, duration time.Duration, now metav1.MicroTime) *coordinationv1.Lease {
	return &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: node.Name, Namespace: corev1.NamespaceNodeLease,
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}},
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity:       ptr.To(node.Name),
			LeaseDurationSeconds: ptr.To(max(1, int32(duration.Seconds()))),
			RenewTime:            &now,
		},
	}
}

// addresses hands out addresses in order.
type addresses struct {
	mu   sync.Mutex
	last netip.Addr // guarded by mu
}

func newAddresses(before string) *addresses { return &addresses{last: netip.MustParseAddr(before)} }

func (a *addresses) next() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = a.last.Next()
	return a.last.String()
}

// taken passes over an address that an earlier run has given out.
func (a *addresses) taken(address string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ip, err := netip.ParseAddr(address); err == nil && ip.Compare(a.last) > 0 && ip.As4()[0] == a.last.As4()[0] {
		a.last = ip
	}
}
