package watch

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

var nodes = kind{
	Version:  "v1",
	Kind:     "Node",
	Resource: "nodes",
	Keep:     true,
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
	ready := map[string]bool{} // UIDs of the nodes that we have seen ready
	return view{
		judge: func(obj metav1.Object, now time.Time, tracked []episode.Key) []episode.Sighting {
			return d.judge(obj.(*corev1.Node), detect.Facts{
				Now:        now,
				Thresholds: w.cfg.Thresholds,
				SeenReady:  ready[string(obj.GetUID())],
			}, tracked)
		},
		change: func(_, obj metav1.Object, _ time.Time) {
			if _, c := detect.ReadyCondition(obj.(*corev1.Node)); c != nil && c.Status == corev1.ConditionTrue {
				ready[string(obj.GetUID())] = true
			}
		},
		forget: func(uid string) { delete(ready, uid) },
	}
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
	}
	for _, c := range n.Status.Conditions {
		c.Message = clip(c.Message)
		slim.Status.Conditions = append(slim.Status.Conditions, c)
	}
	return slim
}
