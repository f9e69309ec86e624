package watch

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/stream"
)

// Which pods are on a node that is being emptied, and which budgets protect
// them, is not kept of all pods: it is asked for, while there is a need to
// know, of one such node at a time.
const (
	askPods      = 30 * time.Second // so often at most, of one node …
	askPodsAgain = 2 * time.Minute  // … and of the same one
	askPodsLimit = 10 * time.Second
	maxHeldPods  = 10 // kept of one budget on one node
)

// followDrains asks what is on nodes that are being emptied, as long as there
// are budgets that allow no disruption.
func (w *Watcher) followDrains(ctx context.Context) {
	tick := time.NewTicker(askPods)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.askHeld(ctx, time.Now())
	}
}

// askHeld asks about the node that is next, if any.
func (w *Watcher) askHeld(ctx context.Context, now time.Time) {
	w.mu.Lock()
	uid, node := w.absences.next(now)
	budgets := maps.Clone(w.absences.budgets)
	w.mu.Unlock()
	if uid == "" {
		return
	}
	held, err := w.heldOn(ctx, node, budgets)
	if err != nil {
		if ctx.Err() == nil {
			w.log.Debug("what a cordoned node runs is not known; trying again", "node", node, "err", err)
		}
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := w.absences.nodes[uid]
	if n == nil || !n.emptied {
		return // it is in use again
	}
	before := n.held
	n.held = held
	for id := range before {
		w.judgeBudget(id)
	}
	for id := range held {
		w.judgeBudget(id)
	}
}

// judgeBudget has a budget judged again. The caller holds mu.
func (w *Watcher) judgeBudget(uid string) {
	if b, ok := w.absences.budgets[uid]; ok {
		w.again(budgets.Version, budgets.Kind, b.namespace, b.name)
	}
}

// next is the node to ask about now: the one that was asked about longest ago.
func (a *absences) next(now time.Time) (uid, name string) {
	if len(a.budgets) == 0 {
		return "", ""
	}
	var due []string
	for id, n := range a.nodes {
		if n.emptied && now.Sub(n.asked) >= askPodsAgain {
			due = append(due, id)
		}
	}
	if len(due) == 0 {
		return "", ""
	}
	uid = slices.MinFunc(due, func(x, y string) int {
		return cmp.Or(a.nodes[x].asked.Compare(a.nodes[y].asked), cmp.Compare(x, y))
	})
	a.nodes[uid].asked = now
	return uid, a.nodes[uid].name
}

// heldOn is the pods on a node that a drain would evict, by the UIDs of the
// budgets that protect them.
func (w *Watcher) heldOn(ctx context.Context, node string, budgets map[string]budget) (map[string][]detect.Held, error) {
	ctx, cancel := context.WithTimeout(ctx, askPodsLimit)
	defer cancel()
	held := map[string][]detect.Held{}
	err := w.server.list(ctx, pods, "", fields.OneTermEqualSelector("spec.nodeName", node), func(o *stream.Object) error {
		p := new(corev1.Pod)
		if err := stream.Decode(o, p); err != nil {
			return err
		}
		addHeld(held, p, node, budgets)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list pods on %s: %w", node, err)
	}
	return held, nil
}

// addHeld adds a pod to held under the budgets that protect it on the node.
func addHeld(held map[string][]detect.Held, p *corev1.Pod, node string, budgets map[string]budget) {
	if p.Spec.NodeName != node || !evicted(p) {
		return
	}
	for uid, b := range budgets {
		if b.namespace == p.Namespace && len(held[uid]) < maxHeldPods && b.selector.Matches(labels.Set(p.Labels)) {
			held[uid] = append(held[uid], detect.Held{Pod: p.Name, Node: node, Ready: podReady(p)})
		}
	}
}

// evicted reports whether a drain evicts the pod: those of daemon sets, static
// ones and those that are done or going stay.
func evicted(p *corev1.Pod) bool {
	c := metav1.GetControllerOfNoCopy(p)
	return p.DeletionTimestamp == nil && p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed &&
		p.Annotations[corev1.MirrorPodAnnotationKey] == "" && (c == nil || c.Kind != "DaemonSet")
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
