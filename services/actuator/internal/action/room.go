package action

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/selfheal/selfheal/services/actuator/internal/guard"
	"github.com/selfheal/selfheal/services/actuator/internal/live"
)

// A need is what a pod asks of a node, and a space is what a node has left.
type need struct {
	name     string
	cpu, mem int64 // millicores, bytes
	pod      *corev1.Pod
}

type space struct {
	node     *corev1.Node
	cpu, mem int64
	pods     int64
}

// hasRoom reports whether the pods find a place on the other nodes, and if not
// which one does not. It puts the largest first onto the first node that takes
// it, as a scheduler that knows of requests, taints and node selectors would;
// what else may keep a pod away it does not see.
func hasRoom(spaces []space, pods []need) (bool, string) {
	spaces = slices.Clone(spaces)
	slices.SortFunc(pods, func(a, b need) int {
		return cmp.Or(cmp.Compare(b.mem, a.mem), cmp.Compare(b.cpu, a.cpu), cmp.Compare(a.name, b.name))
	})
	for _, p := range pods {
		i := slices.IndexFunc(spaces, func(s space) bool { return s.fits(p) })
		if i < 0 {
			return false, fmt.Sprintf("no other Ready node has room for %s (%s cpu, %s memory)", p.name,
				resource.NewMilliQuantity(p.cpu, resource.DecimalSI), resource.NewQuantity(p.mem, resource.BinarySI))
		}
		spaces[i].cpu -= p.cpu
		spaces[i].mem -= p.mem
		spaces[i].pods--
	}
	return true, ""
}

func (s space) fits(n need) bool {
	if s.cpu < n.cpu || s.mem < n.mem || s.pods < 1 {
		return false
	}
	for label, value := range n.pod.Spec.NodeSelector {
		if s.node.Labels[label] != value {
			return false
		}
	}
	for i := range s.node.Spec.Taints {
		if t := &s.node.Spec.Taints[i]; t.Effect != corev1.TaintEffectPreferNoSchedule && !tolerates(n.pod, t) {
			return false
		}
	}
	return true
}

func tolerates(p *corev1.Pod, taint *corev1.Taint) bool {
	for _, t := range p.Spec.Tolerations {
		if (t.Effect == "" || t.Effect == taint.Effect) && (t.Key == "" || t.Key == taint.Key) &&
			(t.Operator == corev1.TolerationOpExists || t.Value == taint.Value) {
			return true
		}
	}
	return false
}

// requests is what the scheduler sets aside for a pod: the containers' sum, or
// the largest init container if that is more, and the overhead.
func requests(p *corev1.Pod) need {
	n := need{name: p.Namespace + "/" + p.Name, pod: p}
	for _, c := range p.Spec.Containers {
		n.cpu += c.Resources.Requests.Cpu().MilliValue()
		n.mem += c.Resources.Requests.Memory().Value()
	}
	for _, c := range p.Spec.InitContainers {
		n.cpu = max(n.cpu, c.Resources.Requests.Cpu().MilliValue())
		n.mem = max(n.mem, c.Resources.Requests.Memory().Value())
	}
	n.cpu += p.Spec.Overhead.Cpu().MilliValue()
	n.mem += p.Spec.Overhead.Memory().Value()
	return n
}

// spacesElsewhere gathers what the Ready, schedulable nodes but one have left.
func spacesElsewhere(ctx context.Context, r live.Reader, but string) ([]space, error) {
	nodes, err := r.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	var spaces []space
	at := map[string]int{}
	for i := range nodes {
		n := &nodes[i]
		if n.Name == but || n.Spec.Unschedulable || n.DeletionTimestamp != nil || !guard.NodeReady(n) {
			continue
		}
		free := n.Status.Allocatable
		at[n.Name] = len(spaces)
		spaces = append(spaces, space{node: n, cpu: free.Cpu().MilliValue(), mem: free.Memory().Value(), pods: free.Pods().Value()})
	}
	err = r.EachPod(ctx, func(p *corev1.Pod) {
		i, ok := at[p.Spec.NodeName]
		if !ok {
			return
		}
		n := requests(p)
		spaces[i].cpu -= n.cpu
		spaces[i].mem -= n.mem
		spaces[i].pods--
	})
	return spaces, err
}
