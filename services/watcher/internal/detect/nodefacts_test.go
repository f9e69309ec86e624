package detect

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// speakingOf is every detector that speaks for a node now.
func speakingOf(t *testing.T, node *corev1.Node, facts Facts) []string {
	t.Helper()
	var all []string
	for _, d := range Nodes {
		found := d.Find(node, facts)
		if len(found) == 0 || d.Excuse(node, facts) != None {
			continue
		}
		all = append(all, d.Name+" "+found[0].Reason)
		if found[0].Description == "" || len(found[0].Evidence) == 0 {
			t.Errorf("%s says nothing about, or shows nothing of, what it finds", d.Name)
		}
	}
	return all
}

func TestWhatIsKnownOfANodeDecidesWhoSpeaks(t *testing.T) {
	condition := func(of corev1.NodeConditionType, status corev1.ConditionStatus) corev1.NodeCondition {
		return corev1.NodeCondition{Type: of, Status: status}
	}
	// came is a node that came so long ago, and whose Ready changed so long after.
	came := func(ago, changed time.Duration, ready corev1.ConditionStatus, message string) *corev1.Node {
		n := nodeWith(ready)
		n.CreationTimestamp = metav1.Time{Time: noon.Add(-ago)}
		n.Status.Conditions[0].LastTransitionTime = metav1.Time{Time: n.CreationTimestamp.Add(changed)}
		n.Status.Conditions[0].Message = message
		return n
	}
	cordoned := func(n *corev1.Node, by string, ago time.Duration) *corev1.Node {
		n.Spec.Unschedulable = true
		n.Spec.Taints = []corev1.Taint{{Key: corev1.TaintNodeUnschedulable, TimeAdded: &metav1.Time{Time: noon.Add(-ago)}}}
		n.Annotations = map[string]string{heal.AnnotationOwnedBy: by, heal.AnnotationDecisionID: "d-1"}
		return n
	}
	leaves := func(n *corev1.Node) *corev1.Node {
		n.Spec.Taints = []corev1.Taint{{Key: "ToBeDeletedByClusterAutoscaler"}}
		return n
	}
	well := func() *corev1.Node { return nodeWith(corev1.ConditionTrue) }
	many := []string{"Deployment/shop/a", "Deployment/shop/b", "StatefulSet/db/c"}
	seen := Facts{SeenReady: true}
	tests := []struct {
		name  string
		node  *corev1.Node
		facts Facts
		want  []string
	}{
		{name: "well", node: well(), facts: seen},

		{name: "accelerators, by EKS (N6)", node: nodeWith(corev1.ConditionTrue, condition("AcceleratedHardwareReady", corev1.ConditionFalse)), facts: seen, want: []string{"accelerator AcceleratorUnhealthy"}},
		{name: "accelerators that are well", node: nodeWith(corev1.ConditionTrue, condition("AcceleratedHardwareReady", corev1.ConditionTrue)), facts: seen},
		{name: "accelerators, by NVSentinel (N6)", node: nodeWith(corev1.ConditionTrue, condition("SysLogsXIDError", corev1.ConditionTrue)), facts: seen, want: []string{"accelerator AcceleratorUnhealthy"}},
		{name: "accelerators, by DCGM (N6)", node: nodeWith(corev1.ConditionTrue, condition("GpuNvlinkWatch", corev1.ConditionTrue)), facts: seen, want: []string{"accelerator AcceleratorUnhealthy"}},
		{name: "a watch that sees nothing", node: nodeWith(corev1.ConditionTrue, condition("GpuNvlinkWatch", corev1.ConditionFalse)), facts: seen},
		{name: "accelerators of a node that leaves", node: leaves(nodeWith(corev1.ConditionTrue, condition("GpuNvlinkWatch", corev1.ConditionTrue))), facts: seen},

		{name: "flapping (N7)", node: well(), facts: Facts{SeenReady: true, ReadyChanges: 3}, want: []string{"node_flapping NodeFlapping"}},
		{name: "back again, for once", node: well(), facts: Facts{SeenReady: true, ReadyChanges: 2}},
		{name: "flapping, and not ready just now", node: nodeWith(corev1.ConditionFalse), facts: Facts{SeenReady: true, ReadyChanges: 3}, want: []string{"node_not_ready KubeletNotReady"}},

		{name: "booted anew (N8)", node: well(), facts: Facts{SeenReady: true, Rebooted: noon.Add(-time.Minute)}, want: []string{"node_rebooted NodeRebooted"}},
		{name: "booted anew, as its kubelet says (N8)", node: well(), facts: Facts{SeenReady: true, Events: []Event{{Reason: rebooted, At: noon}}}, want: []string{"node_rebooted NodeRebooted"}},
		{name: "booted anew a while ago", node: well(), facts: Facts{SeenReady: true, Rebooted: noon.Add(-RebootTold)}},
		{name: "booted anew, perhaps by us", node: cordoned(well(), heal.FieldManager, time.Minute), facts: Facts{SeenReady: true, Rebooted: noon}},

		{name: "booted anew, as people do it", node: cordoned(well(), "", time.Minute), facts: Facts{SeenReady: true, Rebooted: noon, Events: []Event{{Reason: rebooted, At: noon}}}},
		{name: "booted anew, as people did it, who let it be used again", node: well(), facts: Facts{SeenReady: true, InHand: noon.Add(-time.Minute), Events: []Event{{Reason: rebooted, At: noon.Add(-2 * time.Minute)}}}},
		{name: "booted anew after people let it be used again", node: well(), facts: Facts{SeenReady: true, InHand: noon.Add(-2 * time.Minute), Events: []Event{{Reason: rebooted, At: noon.Add(-time.Minute)}}}, want: []string{"node_rebooted NodeRebooted"}},

		{name: "not ready while people have cordoned it", node: cordoned(nodeWith(corev1.ConditionUnknown), "", time.Hour), facts: seen},
		{name: "never ready, and cordoned since it came", node: cordoned(came(20*time.Minute, time.Second, corev1.ConditionFalse, ""), "", time.Minute)},

		{name: "never ready (N9)", node: came(15*time.Minute, time.Second, corev1.ConditionFalse, "no network"), want: []string{"node_never_ready NodeNeverReady"}},
		{name: "never ready, and silent by now (N9)", node: came(20*time.Minute, time.Minute, corev1.ConditionUnknown, ""), want: []string{"node_never_ready NodeNeverReady"}},
		{name: "not ready yet", node: came(14*time.Minute, time.Second, corev1.ConditionFalse, "no network")},
		{name: "not ready any more, as its condition tells", node: came(time.Hour, 30*time.Minute, corev1.ConditionFalse, ""), want: []string{"node_not_ready KubeletNotReady"}},
		{name: "not ready any more, as we saw", node: came(time.Hour, time.Second, corev1.ConditionFalse, ""), facts: seen, want: []string{"node_not_ready KubeletNotReady"}},
		{name: "never ready, and taken away again", node: leaves(came(20*time.Minute, time.Second, corev1.ConditionFalse, ""))},

		{name: "cordoned by us yesterday (N10)", node: cordoned(well(), heal.FieldManager, 24*time.Hour), facts: seen, want: []string{"forgotten_cordon ForgottenCordon"}},
		{name: "cordoned by us today", node: cordoned(well(), heal.FieldManager, 23*time.Hour), facts: seen},
		{name: "cordoned by somebody else", node: cordoned(well(), "", 240*time.Hour), facts: seen},
		{name: "cordoned by us yesterday, as far as we saw", node: func() *corev1.Node {
			n := cordoned(well(), heal.FieldManager, 0)
			n.Spec.Taints = nil
			return n
		}(), facts: Facts{SeenReady: true, CordonSeen: noon.Add(-25 * time.Hour)}, want: []string{"forgotten_cordon ForgottenCordon"}},
		{name: "cordoned by us yesterday, and not well", node: cordoned(nodeWith(corev1.ConditionFalse), heal.FieldManager, 48*time.Hour), facts: seen, want: []string{"node_not_ready KubeletNotReady"}},
		{name: "our marks without a cordon", node: func() *corev1.Node {
			n := cordoned(well(), heal.FieldManager, 48*time.Hour)
			n.Spec.Unschedulable = false
			return n
		}(), facts: seen},

		{name: "three workloads fail here only (N11)", node: well(), facts: Facts{SeenReady: true, Accusers: many, Nodes: 3}, want: []string{"node_suspected NodeSuspected"}},
		{name: "two do", node: well(), facts: Facts{SeenReady: true, Accusers: many[:2], Nodes: 3}},
		{name: "in a cluster of two nodes", node: well(), facts: Facts{SeenReady: true, Accusers: many, Nodes: 2}},
		{name: "one fails on another node as well", node: well(), facts: Facts{SeenReady: true, Accusers: many, AccusersElsewhere: 1, Nodes: 9}, want: []string{"node_suspected NodeSuspected"}},
		{name: "it is much the same on other nodes", node: well(), facts: Facts{SeenReady: true, Accusers: many, AccusersElsewhere: 2, Nodes: 9}},
		{name: "they fail since it is not ready", node: nodeWith(corev1.ConditionUnknown), facts: Facts{SeenReady: true, Accusers: many, Nodes: 3}, want: []string{"node_not_ready NodeStatusUnknown"}},

		{name: "its certificate runs out (N13)", node: nodeWith(corev1.ConditionTrue, condition("KubeletCertificateExpiring", corev1.ConditionTrue)), facts: seen, want: []string{"kubelet_certificate KubeletCertificateExpiring"}},
		{name: "its certificate is about to expire (N13)", node: nodeWith(corev1.ConditionTrue, condition("CertAboutToExpire", corev1.ConditionTrue)), facts: seen, want: []string{"kubelet_certificate KubeletCertificateExpiring"}},
		{name: "its certificate is good", node: nodeWith(corev1.ConditionTrue, condition("CertificateExpiring", corev1.ConditionFalse)), facts: seen},
		{name: "its PLEG is not healthy (N13)", node: came(time.Hour, 30*time.Minute, corev1.ConditionFalse, "PLEG is not healthy: pleg was last seen active 3m10s ago; threshold is 3m0s"), facts: seen, want: []string{"node_not_ready PLEGUnhealthy"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.facts.Now, tt.facts.Thresholds = noon, defaults
			if diff := cmp.Diff(tt.want, speakingOf(t, tt.node, tt.facts)); diff != "" {
				t.Errorf("detectors that speak (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFindingsSayWhatTheirNodeIsForAndWhoReplacesIt(t *testing.T) {
	tests := []struct {
		name                string
		labels, annotations map[string]string
		want                map[string]string
	}{
		{name: "any node"},
		{name: "of the control plane (N12)", labels: map[string]string{"node-role.kubernetes.io/control-plane": ""}, want: map[string]string{"control_plane": "true"}},
		{name: "of an older control plane", labels: map[string]string{"node-role.kubernetes.io/master": ""}, want: map[string]string{"control_plane": "true"}},
		{name: "of Karpenter", labels: map[string]string{"karpenter.sh/nodepool": "x"}, want: map[string]string{"provider": "karpenter"}},
		{name: "of Cluster API", annotations: map[string]string{"cluster.x-k8s.io/machine": "x"}, want: map[string]string{"provider": "cluster-api"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			node := nodeWith(corev1.ConditionTrue, corev1.NodeCondition{Type: "KernelDeadlock", Status: corev1.ConditionTrue}, corev1.NodeCondition{Type: "DiskPressure", Status: corev1.ConditionTrue})
			node.Labels, node.Annotations = tt.labels, tt.annotations
			facts := Facts{
				Now: noon, Thresholds: defaults, SeenReady: true,
				ReadyChanges: 9, Rebooted: noon, Accusers: []string{"a", "b", "c"}, Nodes: 3,
			}
			n := 0
			for _, d := range Nodes {
				for _, f := range d.Find(node, facts) {
					n++
					for _, key := range []string{"control_plane", "provider"} {
						if f.Metadata[key] != tt.want[key] {
							t.Errorf("%s: %s = %q, want %q", d.Name, key, f.Metadata[key], tt.want[key])
						}
					}
				}
			}
			if n < 5 {
				t.Errorf("only %d findings looked at", n)
			}
		})
	}
}

func TestNodesAreFoundWithWhatShowsIt(t *testing.T) {
	found := func(d Detector[*corev1.Node], n *corev1.Node, facts Facts) Finding {
		t.Helper()
		facts.Now, facts.Thresholds = noon, defaults
		all := d.Find(n, facts)
		if len(all) != 1 {
			t.Fatalf("%s finds %d things, want 1", d.Name, len(all))
		}
		return all[0]
	}
	node := nodeWith(corev1.ConditionTrue, corev1.NodeCondition{Type: "GpuMemWatch", Status: corev1.ConditionTrue, Message: "DBE"})
	if diff := cmp.Diff(Finding{
		Part: "GpuMemWatch", Reason: "AcceleratorUnhealthy", Hold: 10 * time.Minute,
		Description: "node n1 has an accelerator that fails: GpuMemWatch: DBE",
		Evidence:    []heal.Evidence{{Path: "status.conditions[0].status", Value: "True"}, {Path: "status.conditions[0].message", Value: "DBE"}},
		Metadata:    map[string]string{"condition": "GpuMemWatch", "repaired_by": "nvsentinel"},
	}, found(accelerator, node, Facts{})); diff != "" {
		t.Errorf("accelerator (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Finding{
		Reason: "NodeSuspected", Hold: 10 * time.Minute,
		Description: "node n1 says that it is well, but 5 workloads fail on it, and on no other: a, b, c, d and 1 more",
		Evidence:    []heal.Evidence{{Path: `pods[?(@.spec.nodeName=="n1")].metadata.ownerReferences`, Value: "a, b, c, d and 1 more"}},
		Metadata:    map[string]string{"workloads_failing": "5", "workloads": "a, b, c, d and 1 more", "nodes": "4"},
	}, found(nodeSuspected, node, Facts{Accusers: []string{"a", "b", "c", "d", "e"}, Nodes: 4})); diff != "" {
		t.Errorf("suspected (-want +got):\n%s", diff)
	}
	node.Status.NodeInfo.BootID = "b2"
	if diff := cmp.Diff([]heal.Evidence{
		{Path: "status.nodeInfo.bootID", Value: "b2"}, {Path: `events[?(@.reason=="Rebooted")].message`, Value: "boot id: b2"},
	}, found(nodeRebooted, node, Facts{Rebooted: noon, Events: []Event{{Reason: rebooted, Message: "boot id: b2", At: noon}}}).Evidence); diff != "" {
		t.Errorf("evidence of a reboot (-want +got):\n%s", diff)
	}
}

func TestAcceleratorIsWellOnlyWhenItsAgentSaysSo(t *testing.T) {
	for name, tt := range map[string]struct {
		of     corev1.NodeConditionType
		status corev1.ConditionStatus
		want   bool
	}{
		"EKS says so":        {"AcceleratedHardwareReady", corev1.ConditionTrue, true},
		"EKS does not know":  {"AcceleratedHardwareReady", corev1.ConditionUnknown, false},
		"NVSentinel says so": {"GpuMemWatch", corev1.ConditionFalse, true},
		"it still fails":     {"GpuMemWatch", corev1.ConditionTrue, false},
		"nobody reports it":  {"Other", corev1.ConditionTrue, true},
	} {
		part := string(tt.of)
		if part == "Other" {
			part = "GpuMemWatch"
		}
		if got := accelerator.Well(nodeWith(corev1.ConditionTrue, corev1.NodeCondition{Type: tt.of, Status: tt.status}), part); got != tt.want {
			t.Errorf("%s: Well = %v, want %v", name, got, tt.want)
		}
	}
}

func TestOnlyWhatCanBeANodesFaultBlamesIt(t *testing.T) {
	for name, want := range map[string]bool{
		"crash_loop": true, "stuck_creating": true, "image_pull": true, "config_error": false, "unschedulable": false, "evicted": false, "unknown": false,
	} {
		if got := MayBlameNode(name); got != want {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
	}
}
