package detect

import (
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// headroomLost finds that the cluster could not take in the pods of its
// largest node if that failed. It is about the cluster as a whole, which has
// no object of its own; namespace kube-system, which is there as long as the
// cluster, stands for it.
var headroomLost = Detector[*corev1.Namespace]{
	Name: "headroom_lost",
	Row:  "R2",
	Type: heal.ResourceExhaustion,

	Reasons: []string{"HeadroomLost"},
	Hold:    "10 min",
	Excused: "not all nodes and pods have been read yet; nodes come when they are needed (there are taints or labels of Karpenter or cluster-autoscaler); fewer than two nodes take any pod",

	Find: findHeadroomLost,
	Excuse: func(_ *corev1.Namespace, facts Facts) Excuse {
		if !facts.Capacity.Known || facts.Capacity.Elastic {
			return Masked
		}
		return None
	},
	Clear: func(Thresholds) time.Duration { return headroomHold / 2 },
}

// ClusterNamespace is the namespace that stands for the cluster.
const ClusterNamespace = metav1.NamespaceSystem

const headroomHold = 10 * time.Minute

// Capacity is what the nodes that take any pod can give, and what is asked of them.
type Capacity struct {
	Known       bool // all of it was read
	Elastic     bool // nodes come when they are needed
	Nodes       int
	Allocatable Amount // of all
	Largest     Amount // of the node that has most, for each resource
	Requested   Amount // by the pods that run there
}

// An Amount is of the resources that the scheduler counts.
type Amount struct {
	CPU    int64 // thousandths of a core
	Memory int64 // bytes
}

func findHeadroomLost(n *corev1.Namespace, facts Facts) []Finding {
	c := facts.Capacity
	if n.Name != ClusterNamespace || c.Nodes < 2 {
		return nil
	}
	var found []Finding
	for _, r := range []struct {
		name                            string
		allocatable, largest, requested int64
		text                            func(int64) string
	}{
		{"cpu", c.Allocatable.CPU, c.Largest.CPU, c.Requested.CPU, func(n int64) string { return resource.NewMilliQuantity(n, resource.DecimalSI).String() }},
		{"memory", c.Allocatable.Memory, c.Largest.Memory, c.Requested.Memory, func(n int64) string { return resource.NewQuantity(n, resource.BinarySI).String() }},
	} {
		if r.requested <= r.allocatable-r.largest {
			continue
		}
		found = append(found, Finding{
			Part: r.name, Reason: "HeadroomLost", Hold: headroomHold,
			Description: fmt.Sprintf("if the largest of %d nodes failed, its pods would find too little %s: %s requested, %s left without it",
				c.Nodes, r.name, r.text(r.requested), r.text(r.allocatable-r.largest)),
			Evidence: []heal.Evidence{
				{Path: fmt.Sprintf("sum(pods[*].spec.containers[*].resources.requests.%s)", r.name), Value: r.text(r.requested)},
				{Path: fmt.Sprintf("sum(nodes[*].status.allocatable.%s)", r.name), Value: r.text(r.allocatable)},
				{Path: fmt.Sprintf("max(nodes[*].status.allocatable.%s)", r.name), Value: r.text(r.largest)},
			},
			Metadata: map[string]string{"resource": r.name, "nodes": strconv.Itoa(c.Nodes)},
		})
	}
	return found
}
