package fleet

import (
	"fmt"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const (
	nodePrefix = "/registry/minions/"
	created    = 72 * time.Hour // before the fleet was written: when its workloads were made
	started    = 48 * time.Hour // before it: when pods began to run

	leaseDuration = 40 * time.Second
)

func ago(now metav1.Time, d time.Duration) metav1.Time {
	return metav1.NewTime(now.Add(-d).Truncate(time.Second))
}

func newNode(i int, now metav1.Time) stored {
	name := nodeName(i)
	key := nodePrefix + name
	zone := zoneOf(i)
	capacity := corev1.ResourceList{
		corev1.ResourceCPU: resource.MustParse("32"), corev1.ResourceMemory: resource.MustParse("128Gi"),
		corev1.ResourcePods: resource.MustParse("250"), corev1.ResourceEphemeralStorage: resource.MustParse("200Gi"),
	}
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: uidOf(key), CreationTimestamp: ago(now, created),
			Labels: map[string]string{
				corev1.LabelHostname: name, corev1.LabelArchStable: "amd64", corev1.LabelOSStable: "linux",
				corev1.LabelInstanceTypeStable: "m6i.8xlarge", corev1.LabelTopologyZone: zone, corev1.LabelTopologyRegion: "eu-west-1",
				"node.kubernetes.io/pool": "general",
			},
			Annotations: map[string]string{
				"node.alpha.kubernetes.io/ttl":                           "0",
				"volumes.kubernetes.io/controller-managed-attach-detach": "true",
			},
			ManagedFields: managed(now, "kubelet", "Update", "v1", "status", nodeFields),
		},
		Spec: corev1.NodeSpec{ProviderID: "aws:///" + zone + "/i-" + suffix(name, 17)},
		Status: corev1.NodeStatus{
			Capacity: capacity, Allocatable: capacity,
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeIP(i)}, {Type: corev1.NodeHostName, Address: name}},
			NodeInfo: corev1.NodeSystemInfo{
				MachineID: suffix(name+"machine", 32), SystemUUID: string(uidOf(name + "system")), BootID: string(uidOf(name + "boot")),
				KernelVersion: "6.1.0", OSImage: "Linux", ContainerRuntimeVersion: "containerd://2.0.0", KubeletVersion: "v1.36.3",
				OperatingSystem: "linux", Architecture: "amd64",
			},
			DaemonEndpoints: corev1.NodeDaemonEndpoints{KubeletEndpoint: corev1.DaemonEndpoint{Port: 10250}},
		},
	}
	for _, c := range []struct {
		kind            corev1.NodeConditionType
		status          corev1.ConditionStatus
		reason, message string
	}{
		{corev1.NodeMemoryPressure, corev1.ConditionFalse, "KubeletHasSufficientMemory", "kubelet has sufficient memory available"},
		{corev1.NodeDiskPressure, corev1.ConditionFalse, "KubeletHasNoDiskPressure", "kubelet has no disk pressure"},
		{corev1.NodePIDPressure, corev1.ConditionFalse, "KubeletHasSufficientPID", "kubelet has sufficient PID available"},
		{corev1.NodeReady, corev1.ConditionTrue, "KubeletReady", "kubelet is posting ready status"},
	} {
		n.Status.Conditions = append(n.Status.Conditions, corev1.NodeCondition{
			Type: c.kind, Status: c.status, Reason: c.reason, Message: c.message,
			LastTransitionTime: ago(now, created), LastHeartbeatTime: now,
		})
	}
	for j := range 12 {
		image := fmt.Sprintf("registry.example.com/platform/image-%02d", j)
		n.Status.Images = append(n.Status.Images, corev1.ContainerImage{
			Names: []string{image + "@" + imageDigest(image), image + ":1.0"}, SizeBytes: int64(40+j) << 20,
		})
	}
	return stored{key, n}
}

func nodeIP(i int) string { return fmt.Sprintf("10.%d.%d.%d", 1+i>>16, i>>8&255, i&255) }

// newLease is the Lease with which a node's kubelet says that it lives.
func newLease(node string, now metav1.Time) stored {
	key := "/registry/leases/" + corev1.NamespaceNodeLease + "/" + node
	return stored{key, &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{
			Name: node, Namespace: corev1.NamespaceNodeLease, UID: uidOf(key), CreationTimestamp: ago(now, created),
			OwnerReferences: []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: node, UID: uidOf(nodePrefix + node)}},
		},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To(node), LeaseDurationSeconds: ptr.To(int32(leaseDuration / time.Second)),
			RenewTime: ptr.To(metav1.NewMicroTime(now.Time)),
		},
	}}
}
