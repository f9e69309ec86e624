package watch

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

const (
	// freshNode is how long a node that has come, or come back, may take to
	// have what runs on every node.
	freshNode = 5 * time.Minute
	// drainLimit is how long the absence of a node may be part of a drain. One
	// that lasts was forgotten, and explains nothing any more.
	drainLimit = time.Hour
)

// absences is which nodes are out of service, and what that does to others:
// the pods of daemon sets that are on them are missing, pods of deployments
// are on their way, and disruption budgets hold some back. The zero value is
// ready for use; the Watcher's mu guards it.
type absences struct {
	nodes   map[string]*absence // by UID: of those that are away, or have only just come
	budgets map[string]budget   // by UID: of those that allow no disruption now
}

// An absence is one node's.
type absence struct {
	name    string
	since   time.Time // when we first saw it away; zero for a node that is new
	emptied bool      // it is, or is about to be, drained
	fresh   time.Time // it is back, and counts as away until then; zero while it is away
	asked   time.Time // for its pods
	held    map[string][]detect.Held
}

// A budget is a disruption budget that allows none.
type budget struct {
	namespace, name string
	selector        labels.Selector
}

// noteAbsence takes in how a node is now. The caller holds mu.
func (w *Watcher) noteAbsence(node *corev1.Node, now time.Time) {
	for _, id := range w.absences.note(node, now) {
		w.judgeBudget(id)
	}
}

func (w *Watcher) forgetAbsence(uid string) {
	for _, id := range w.absences.forget(uid) {
		w.judgeBudget(id)
	}
}

// note takes in how a node is now. It returns the budgets that held its pods,
// if it does not go any more.
func (a *absences) note(node *corev1.Node, now time.Time) (released []string) {
	uid := string(node.UID)
	before := a.nodes[uid]
	away, emptied := detect.Away(node)
	if before != nil && !emptied {
		for id := range before.held {
			released = append(released, id)
		}
	}
	if a.nodes == nil {
		a.nodes = map[string]*absence{}
	}
	if away {
		n := &absence{name: node.Name, since: now, emptied: emptied}
		if before != nil && before.fresh.IsZero() {
			n.since = before.since
			if emptied {
				n.asked, n.held = before.asked, before.held
			}
		}
		a.nodes[uid] = n
		return released
	}
	n := &absence{name: node.Name}
	if _, ready := detect.ReadyCondition(node); ready != nil {
		n.fresh = ready.LastTransitionTime.Add(freshNode)
	}
	if before != nil {
		n.since = before.since
		if before.fresh.IsZero() {
			n.fresh = now.Add(freshNode)
		} else {
			n.fresh = before.fresh
		}
	}
	if !n.fresh.After(now) {
		delete(a.nodes, uid)
		return released
	}
	a.nodes[uid] = n
	return released
}

// forget drops a node that is gone, and returns the budgets that held its pods.
func (a *absences) forget(uid string) (released []string) {
	if n := a.nodes[uid]; n != nil {
		for id := range n.held {
			released = append(released, id)
		}
		delete(a.nodes, uid)
	}
	return released
}

// count is how many nodes are away, and whether pods are on their way because
// of that.
func (a *absences) count(now time.Time) (away int, draining bool) {
	for uid, n := range a.nodes {
		if !n.fresh.IsZero() && !n.fresh.After(now) {
			delete(a.nodes, uid)
			continue
		}
		away++
		draining = draining || !n.since.IsZero() && now.Sub(n.since) < drainLimit
	}
	return away, draining
}

// heldBy is the pods of a budget that are on nodes being emptied.
func (a *absences) heldBy(uid string) []detect.Held {
	var all []detect.Held
	for _, n := range a.nodes {
		all = append(all, n.held[uid]...)
	}
	return all
}
