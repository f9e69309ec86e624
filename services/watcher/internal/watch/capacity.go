package watch

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// capacityInterval is how often it is added up what the cluster can take: it
// changes slowly, and there may be thousands of nodes.
const capacityInterval = 3 * time.Minute

// rooms is what nodes can take. The Watcher's lock guards it; the zero value
// knows nothing.
type rooms struct {
	nodes   map[string]room // by UID
	elastic bool
	last    detect.Capacity
	at      time.Time // of last
	asked   time.Time // when it was last to be judged
}

// A room is what one node can take.
type room struct {
	name   string
	amount detect.Amount
	open   bool // to any pod
}

func (r *rooms) put(n *corev1.Node) {
	if r.nodes == nil {
		r.nodes = map[string]room{}
	}
	r.nodes[string(n.UID)] = room{
		name:   n.Name,
		amount: detect.Amount{CPU: n.Status.Allocatable.Cpu().MilliValue(), Memory: n.Status.Allocatable.Memory().Value()},
		open:   takesAny(n),
	}
	r.elastic = r.elastic || comesOnDemand(n)
}

// takesAny reports whether a node takes any pod: some are for certain pods
// only, and what is left there helps nobody else.
func takesAny(n *corev1.Node) bool {
	if _, c := detect.ReadyCondition(n); n.Spec.Unschedulable || n.DeletionTimestamp != nil || c == nil || c.Status != corev1.ConditionTrue {
		return false
	}
	for _, t := range n.Spec.Taints {
		if t.Effect != corev1.TaintEffectPreferNoSchedule {
			return false
		}
	}
	return true
}

// comesOnDemand reports whether something adds and takes away nodes as they
// are needed. Then little is ever left, on purpose.
func comesOnDemand(n *corev1.Node) bool {
	if n.Labels[karpenterPool] != "" {
		return true
	}
	for _, t := range n.Spec.Taints {
		if strings.HasPrefix(t.Key, "karpenter.sh/") || strings.HasSuffix(t.Key, "ByClusterAutoscaler") || strings.HasSuffix(t.Key, "OfClusterAutoscaler") {
			return true
		}
	}
	return false
}

const karpenterPool = "karpenter.sh/nodepool"

// allocatable keeps what the scheduler counts.
func allocatable(all corev1.ResourceList) corev1.ResourceList {
	if len(all) == 0 {
		return nil
	}
	return corev1.ResourceList{corev1.ResourceCPU: *all.Cpu(), corev1.ResourceMemory: *all.Memory()}
}

// sum adds up what open nodes can take, and what is asked of them.
func (r *rooms) sum(requested func(node string) sum) detect.Capacity {
	c := detect.Capacity{Known: true, Elastic: r.elastic}
	for _, n := range r.nodes {
		if !n.open {
			continue
		}
		c.Nodes++
		c.Allocatable.CPU += n.amount.CPU
		c.Allocatable.Memory += n.amount.Memory
		c.Largest.CPU = max(c.Largest.CPU, n.amount.CPU)
		c.Largest.Memory = max(c.Largest.Memory, n.amount.Memory)
		on := requested(n.name)
		c.Requested.CPU += on.CPU
		c.Requested.Memory += on.Memory
	}
	return c
}

// capacity is what the cluster can take, as it was a few minutes ago at most;
// not Known until everything was read. The caller holds mu.
func (w *Watcher) capacity(now time.Time) detect.Capacity {
	if !w.read("v1", "Pod") || !w.read("v1", "Node") {
		return detect.Capacity{}
	}
	if w.rooms.at.IsZero() || now.Sub(w.rooms.at) >= capacityInterval {
		w.rooms.last, w.rooms.at = w.rooms.sum(w.weights.On), now
	}
	return w.rooms.last
}

// noteRoom takes in what a node can take, and has the cluster judged again now
// and then: every node says how it is every few minutes. The caller holds mu.
func (w *Watcher) noteRoom(n *corev1.Node, now time.Time) {
	w.rooms.put(n)
	if now.Sub(w.rooms.asked) >= capacityInterval {
		w.rooms.asked = now
		w.again(namespaces.Version, namespaces.Kind, "", detect.ClusterNamespace)
	}
}
