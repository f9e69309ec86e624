package watch

import (
	"iter"
	"slices"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
)

// suspicion is which workloads fail on one node only, by node. It is made anew
// from the open episodes, not more often than suspects are judged again.
type suspicion struct {
	made  time.Time
	nodes map[string][]string
}

// suspect makes the suspicion anew if it is old, and has the nodes judged
// again of which it says something else than before. The caller holds mu.
func (w *Watcher) suspect(now time.Time) {
	if now.Sub(w.suspicion.made) < w.cfg.Recheck {
		return
	}
	before := w.suspicion.nodes
	w.suspicion = suspicion{made: now, nodes: accusers(w.book.Failing())}
	for _, nodes := range []map[string][]string{before, w.suspicion.nodes} {
		for name := range nodes {
			if !slices.Equal(before[name], w.suspicion.nodes[name]) {
				w.again("v1", "Node", "", name)
			}
		}
	}
}

// against is who fails on node only, and how many do so on the node with the
// most of them besides it.
func (s suspicion) against(node string) (here []string, elsewhere int) {
	for name, workloads := range s.nodes {
		if name != node {
			elsewhere = max(elsewhere, len(workloads))
		}
	}
	return s.nodes[node], elsewhere
}

// accusers finds, among what fails, the workloads whose pods fail on one node
// only in a way that can be the node's fault; by node, sorted.
func accusers(failing iter.Seq[heal.Failure]) map[string][]string {
	on := map[string]string{} // by workload: the node on which it fails; empty if on several
	for f := range failing {
		if f.Target.Kind != "Pod" || f.Node == "" || !detect.MayBlameNode(f.Detector) {
			continue
		}
		workload := f.Affected().String()
		if node, known := on[workload]; known && node != f.Node {
			on[workload] = ""
			continue
		}
		on[workload] = f.Node
	}
	nodes := map[string][]string{}
	for workload, node := range on {
		if node != "" {
			nodes[node] = append(nodes[node], workload)
		}
	}
	for _, workloads := range nodes {
		slices.Sort(workloads)
	}
	return nodes
}
