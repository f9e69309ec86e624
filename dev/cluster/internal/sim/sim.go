// Package sim stands in for the kubelets of nodes that do not exist. It sends heartbeats, and reports for every pod
// on such a node what a kubelet would report, with the pod's images deciding how its containers behave.
//
// Judging (Judge, JudgeNode) is pure: what is known of a pod or node, and the time, give the next status. The
// Simulator gathers and writes. It keeps no truth of its own: killed and started again, it goes on from the API
// server's objects, to the second.
package sim

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What other programs set to steer the simulation.
const (
	// LabelNode with value "true" makes a Node simulated, whoever creates it.
	LabelNode = "sim.selfheal.dev/node"

	// AnnotationHeartbeat with value "stopped" on a Node silences its kubelet: no heartbeat, no status, and its
	// pods stay as they are. Without it the kubelet comes back.
	AnnotationHeartbeat = "sim.selfheal.dev/heartbeat"

	// AnnotationPressure on a Node lists conditions that its kubelet reports as True, separated by commas:
	// MemoryPressure, DiskPressure, PIDPressure, NetworkUnavailable.
	AnnotationPressure = "sim.selfheal.dev/pressure"

	// AnnotationNotReady on a Node makes its living kubelet report Ready=False with this message.
	AnnotationNotReady = "sim.selfheal.dev/not-ready"

	// AnnotationBehaviour on a Pod replaces the behaviour that its images ask for, at once.
	AnnotationBehaviour = "sim.selfheal.dev/behaviour"
)

const heartbeatStopped = "stopped"

// KubeletVersion is what simulated nodes say they run.
const KubeletVersion = "v1.36.3"

// NewNode is the Node object of a simulated node. Labels are added to the ones that every node has.
func NewNode(name, zone string, labels map[string]string) *corev1.Node {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			LabelNode:                "true",
			corev1.LabelTopologyZone: zone,
		}},
	}
	for k, v := range labels {
		n.Labels[k] = v
	}
	for k, v := range identity(n).labels {
		n.Labels[k] = v
	}
	n.Spec.ProviderID = identity(n).providerID
	return n
}

// Stopped reports whether the node's kubelet was silenced.
func Stopped(n *corev1.Node) bool { return n.Annotations[AnnotationHeartbeat] == heartbeatStopped }

// Ready reports whether the node's Ready condition is True.
func Ready(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// registration is what a kubelet writes to its Node outside of the status.
type registration struct {
	labels     map[string]string // missing ones only
	providerID string
}

func identity(n *corev1.Node) registration {
	r := registration{labels: make(map[string]string), providerID: n.Spec.ProviderID}
	for k, v := range map[string]string{
		corev1.LabelHostname:           n.Name,
		corev1.LabelArchStable:         "amd64",
		corev1.LabelOSStable:           "linux",
		corev1.LabelInstanceTypeStable: "simulated",
		corev1.LabelTopologyZone:       "zone-1",
		corev1.LabelTopologyRegion:     "region-1",
	} {
		if n.Labels[k] == "" {
			r.labels[k] = v
		}
	}
	if r.providerID == "" {
		zone := n.Labels[corev1.LabelTopologyZone]
		if zone == "" {
			zone = "zone-1"
		}
		r.providerID = "sim://" + zone + "/" + n.Name
	}
	return r
}

// pressures returns the condition types that AnnotationPressure asks for.
func pressures(n *corev1.Node) map[corev1.NodeConditionType]bool {
	on := make(map[corev1.NodeConditionType]bool)
	for p := range strings.SplitSeq(n.Annotations[AnnotationPressure], ",") {
		if p = strings.TrimSpace(p); p != "" {
			on[corev1.NodeConditionType(p)] = true
		}
	}
	return on
}
