package watch

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

var nodes = kind{
	Version:  "v1",
	Kind:     "Node",
	Resource: "nodes",
	Keep:     true,
	First:    true,
	Packed:   true,
	New:      func() object { return new(corev1.Node) },
	Slim:     slimNode,
	Open:     openNodes,
}

func openNodes(w *Watcher, k kind) view {
	d := detectors[*corev1.Node]{
		kind: k,
		list: detect.Nodes,
		node: func(n *corev1.Node) string { return n.Name },
	}
	known, past := w.nodes, nodePast{}
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			node := obj.(*corev1.Node)
			if len(tracked) > 0 {
				w.suspect(now) // when nothing fails any more, no pod is judged
			}
			facts := detect.Facts{
				Now:        now,
				Thresholds: w.cfg.Thresholds,
				Events:     w.notes.of(subject("Node", node.Name, ""), now),
				Nodes:      len(known),
				Usage:      w.usageOf(node),

				ServerVersion: w.serverVersion,
				NewestKubelet: newestKubelet(known),
			}
			facts.Accusers, facts.AccusersElsewhere = w.suspicion.against(node.Name)
			if h := known[string(node.UID)]; h != nil {
				h.tell(&facts)
			}
			sightings := d.judge(node, facts, tracked)
			tellNodes(sightings, known)
			return sightings
		},
		change: func(obj metav1.Object, _ bool, now time.Time) {
			uid := string(obj.GetUID())
			if known[uid] == nil {
				known[uid] = past.of(uid, obj.GetName())
			}
			known[uid].note(obj.(*corev1.Node), now)
			w.noteReady(known[uid])
			w.noteRoom(obj.(*corev1.Node), now)
			w.noteAbsence(obj.(*corev1.Node), now)
		},
		forget: func(uid string) {
			if h := known[uid]; h != nil {
				w.departed.add(h.name, time.Now())
				delete(w.unready, h.name)
			}
			delete(known, uid)
			delete(w.rooms.nodes, uid)
			w.forgetAbsence(uid)
		},
		memory: func(now time.Time) json.RawMessage { return savedNodes(known, now) },
		recall: past.load,
	}
}

// tellNodes adds to each failure how many nodes there are, and how many of
// them are not ready: many at once are not about one of them.
func tellNodes(sightings []episode.Sighting, known map[string]*nodeHistory) {
	for i := range sightings {
		metadata := sightings[i].Failure.Metadata
		if metadata == nil {
			continue
		}
		notReady := 0
		for _, h := range known {
			if !h.ready {
				notReady++
			}
		}
		metadata["nodes"], metadata["nodes_not_ready"] = strconv.Itoa(len(known)), strconv.Itoa(notReady)
	}
}

// noteReady takes in whether a node is ready. The caller holds mu.
func (w *Watcher) noteReady(h *nodeHistory) {
	delete(w.departed, h.name)
	if h.status == "" || h.ready {
		delete(w.unready, h.name)
		return
	}
	w.unready[h.name] = struct{}{}
}

// nodeFailing reports whether a node is itself not ready, or gone, as far as
// we see. The caller holds mu.
func (w *Watcher) nodeFailing(name string, now time.Time) bool {
	_, unready := w.unready[name]
	return unready || w.departed.has(name, now)
}

// departed is which nodes are gone, by name, and since when. What is left of
// their pods says how it was then, until Kubernetes clears it away.
type departed map[string]time.Time

// clearedAway is how long that takes at most: about a minute, for a controller
// that keeps up.
const clearedAway = 10 * time.Minute

func (d departed) add(name string, now time.Time) {
	maps.DeleteFunc(d, func(_ string, at time.Time) bool { return now.Sub(at) >= clearedAway })
	d[name] = now
}

func (d departed) has(name string, now time.Time) bool {
	at, gone := d[name]
	return gone && now.Sub(at) < clearedAway
}

// A nodeHistory is what a node does not say itself, and what others ask about
// it so often that to unpack it would be a waste.
type nodeHistory struct {
	name      string
	made      time.Time // by the API server's clock
	leaving   bool
	status    corev1.ConditionStatus // of Ready; empty if it does not say
	ready     bool                   // when last seen
	seenReady bool
	changes   detect.Tally // of ready
	boot      string
	rebooted  time.Time
	cordoned  time.Time
	kubelet   string // its version

	inHand     bool // when last seen
	lastInHand time.Time
}

// note takes in how a node is now.
func (h *nodeHistory) note(node *corev1.Node, now time.Time) {
	_, c := detect.ReadyCondition(node)
	h.made, h.leaving, h.status = node.CreationTimestamp.Time, node.DeletionTimestamp != nil, ""
	if c != nil {
		h.status = shared(c.Status)
	}
	ready := h.status == corev1.ConditionTrue
	inHand := detect.InHand(node)
	if inHand || h.inHand {
		h.lastInHand = now
	}
	h.inHand = inHand
	if h.seenReady && ready != h.ready && !detect.Tended(node) { // to become ready for the first time is no change
		h.changes = h.changes.Add(1, now, detect.FlapWindow)
	}
	h.ready, h.seenReady = ready, h.seenReady || ready
	if boot := node.Status.NodeInfo.BootID; boot != "" {
		if h.boot != "" && h.boot != boot && !inHand {
			h.rebooted = now
		}
		h.boot = boot
	}
	h.kubelet = shared(node.Status.NodeInfo.KubeletVersion)
	switch {
	case !node.Spec.Unschedulable:
		h.cordoned = time.Time{}
	case h.cordoned.IsZero():
		h.cordoned = now
	}
}

func (h *nodeHistory) tell(facts *detect.Facts) {
	facts.SeenReady = h.seenReady
	facts.ReadyChanges = h.changes.Within(facts.Now, detect.FlapWindow)
	facts.Rebooted = h.rebooted
	facts.CordonSeen = h.cordoned
	facts.InHand = h.lastInHand
}

// pressures are the conditions that every node has, most of the time False.
var pressures = []corev1.NodeConditionType{
	corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure, corev1.NodeNetworkUnavailable,
}

// slimNode keeps of a node what detectors read. Add to it what a new one needs.
func slimNode(obj any) any {
	n, ok := obj.(*corev1.Node)
	if !ok {
		return obj
	}
	slim := &corev1.Node{
		ObjectMeta: slimMeta(n.ObjectMeta),
		Spec:       corev1.NodeSpec{Unschedulable: n.Spec.Unschedulable, Taints: n.Spec.Taints},
		Status:     corev1.NodeStatus{NodeInfo: corev1.NodeSystemInfo{BootID: clip(n.Status.NodeInfo.BootID), KubeletVersion: clip(n.Status.NodeInfo.KubeletVersion)}},
	}
	slim.Labels = keep(nil, n.Labels, false, slices.Concat(detect.ControlPlaneLabels, slices.Sorted(maps.Keys(detect.ProviderMarks)))...)
	slim.Annotations = keep(slim.Annotations, n.Annotations, false, slices.Sorted(maps.Keys(detect.ProviderMarks))...)
	slim.Annotations = keep(slim.Annotations, n.Annotations, true, heal.AnnotationOwnedBy, heal.AnnotationDecisionID)
	slim.Labels = keep(slim.Labels, n.Labels, true, karpenterPool)
	slim.Status.Allocatable = allocatable(n.Status.Allocatable)
	for _, c := range n.Status.Conditions {
		if c.Status == corev1.ConditionFalse && slices.Contains(pressures, c.Type) { // as it should be: more is not read
			c = corev1.NodeCondition{Type: c.Type, Status: c.Status}
		}
		c.Message = clip(c.Message)
		slim.Status.Conditions = append(slim.Status.Conditions, c)
	}
	return slim
}

// keep adds to kept those of all that have one of keys; without their values
// unless these say something.
func keep(kept, all map[string]string, values bool, keys ...string) map[string]string {
	for _, key := range keys {
		value, ok := all[key]
		if !ok {
			continue
		}
		if kept == nil {
			kept = map[string]string{}
		}
		kept[key] = ""
		if values {
			kept[key] = clip(value)
		}
	}
	return kept
}
