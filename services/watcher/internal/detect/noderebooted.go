package detect

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// nodeRebooted notes that a node came up anew: its boot id is another than we
// knew, or its kubelet says so. It is a record of what was, for whoever asks
// why pods restarted; nothing is to be done.
var nodeRebooted = Detector[*corev1.Node]{
	Name: "node_rebooted",
	Row:  "N8",
	Type: heal.NodeFailure,

	Severity: heal.Low, // nothing fails now

	Reasons: []string{"NodeRebooted"},
	Hold:    "none; for 10 min",
	Excused: conditionExcused + "; it came up while the node was cordoned, or marked by us: the reboot was meant",

	Find:   findNodeRebooted,
	Excuse: rebootExcuse,
}

// RebootTold is how long a reboot is spoken of.
const RebootTold = 10 * time.Minute

func findNodeRebooted(node *corev1.Node, facts Facts) []Finding {
	f := Finding{
		Reason:      "NodeRebooted",
		Description: fmt.Sprintf("node %s was rebooted", node.Name),
		Metadata:    map[string]string{},
	}
	if !facts.Rebooted.IsZero() && facts.Now.Sub(facts.Rebooted) < RebootTold {
		f.Evidence = append(f.Evidence, heal.Evidence{Path: "status.nodeInfo.bootID", Value: node.Status.NodeInfo.BootID})
	}
	if e := facts.event(rebooted, ""); e != nil && e.At.After(facts.InHand) {
		f.Evidence = append(f.Evidence, e.evidence())
	}
	if f.Evidence == nil {
		return nil
	}
	return []Finding{f}
}

func rebootExcuse(node *corev1.Node, facts Facts) Excuse {
	if InHand(node) {
		return Masked
	}
	return conditionExcuse(node, facts)
}
