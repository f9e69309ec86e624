package sim

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// heartbeatShown is how often a kubelet writes a status in which only the heartbeat times are new. That it lives,
// it says by its Lease.
const heartbeatShown = 5 * time.Minute

// conditionText is what a kubelet says of its conditions: reason and message when all is well, and when not.
var conditionText = []struct {
	kind                               corev1.NodeConditionType
	good, goodMessage, bad, badMessage string
}{
	{kind: corev1.NodeMemoryPressure, good: "KubeletHasSufficientMemory", goodMessage: "kubelet has sufficient memory available",
		bad: "KubeletHasInsufficientMemory", badMessage: "kubelet has insufficient memory available"},
	{kind: corev1.NodeDiskPressure, good: "KubeletHasNoDiskPressure", goodMessage: "kubelet has no disk pressure",
		bad: "KubeletHasDiskPressure", badMessage: "kubelet has disk pressure"},
	{kind: corev1.NodePIDPressure, good: "KubeletHasSufficientPID", goodMessage: "kubelet has sufficient PID available",
		bad: "KubeletHasInsufficientPID", badMessage: "kubelet has insufficient PID available"},
	{kind: corev1.NodeNetworkUnavailable, good: "RouteCreated", goodMessage: "network is configured",
		bad: "NoRouteCreated", badMessage: "network is not configured"},
}

// JudgeNode returns the status that a living kubelet reports for its node, nil when it reports it already. Conditions
// of other writers stay.
func JudgeNode(capacity corev1.ResourceList, ip string, n *corev1.Node, now time.Time) *corev1.NodeStatus {
	at := metav1.NewTime(now.Truncate(time.Second))
	s := n.Status.DeepCopy()
	if len(s.Capacity) == 0 {
		s.Capacity = capacity.DeepCopy()
	}
	if len(s.Allocatable) == 0 {
		s.Allocatable = s.Capacity.DeepCopy()
	}
	if len(s.Addresses) == 0 {
		s.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: ip}, {Type: corev1.NodeHostName, Address: n.Name}}
	}
	s.NodeInfo = nodeInfo(n, s.NodeInfo)
	if s.DaemonEndpoints.KubeletEndpoint.Port == 0 {
		s.DaemonEndpoints.KubeletEndpoint.Port = 10250
	}

	set := conditionSetter{status: s, at: at}
	on := pressures(n)
	for _, c := range conditionText {
		if on[c.kind] {
			set.condition(c.kind, corev1.ConditionTrue, c.bad, c.badMessage)
		} else {
			set.condition(c.kind, corev1.ConditionFalse, c.good, c.goodMessage)
		}
	}
	if message := n.Annotations[AnnotationNotReady]; message != "" {
		set.condition(corev1.NodeReady, corev1.ConditionFalse, "KubeletNotReady", message)
	} else {
		set.condition(corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status")
	}
	if apiequality.Semantic.DeepEqual(s, &n.Status) {
		return nil
	}
	return s
}

type conditionSetter struct {
	status *corev1.NodeStatus
	at     metav1.Time
}

func (s conditionSetter) condition(kind corev1.NodeConditionType, status corev1.ConditionStatus, reason, message string) {
	var c *corev1.NodeCondition
	for i := range s.status.Conditions {
		if s.status.Conditions[i].Type == kind {
			c = &s.status.Conditions[i]
		}
	}
	if c == nil {
		s.status.Conditions = append(s.status.Conditions, corev1.NodeCondition{Type: kind})
		c = &s.status.Conditions[len(s.status.Conditions)-1]
	}
	if c.Status == status && c.Reason == reason && c.Message == message && s.at.Sub(c.LastHeartbeatTime.Time) < heartbeatShown {
		return
	}
	if c.Status != status {
		c.LastTransitionTime = s.at
	}
	c.Status, c.Reason, c.Message, c.LastHeartbeatTime = status, reason, message, s.at
}

// nodeInfo keeps what is there, such as the boot id that a test has changed to simulate a reboot.
func nodeInfo(n *corev1.Node, old corev1.NodeSystemInfo) corev1.NodeSystemInfo {
	if old.KubeletVersion != "" {
		return old
	}
	id := digest("node", n.Name, string(n.UID))
	return corev1.NodeSystemInfo{
		MachineID: id[:32], SystemUUID: id[:32], BootID: id[32:],
		KernelVersion: "6.1.0", OSImage: "Simulated Linux", ContainerRuntimeVersion: "containerd://2.0.0",
		KubeletVersion: KubeletVersion, OperatingSystem: "linux", Architecture: "amd64",
	}
}
