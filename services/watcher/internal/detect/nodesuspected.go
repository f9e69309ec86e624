package detect

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// nodeSuspected finds nodes that say they are well, but on which pods of
// several workloads fail that fail nowhere else.
var nodeSuspected = Detector[*corev1.Node]{
	Name: "node_suspected",
	Row:  "N11",
	Type: heal.NodeFailure,

	Reasons: []string{"NodeSuspected"},
	Hold:    "10 min, from 3 workloads that fail on this node only",
	Excused: conditionExcused + "; the cluster has fewer than 3 nodes; another node has more than a third as many",

	Find: func(node *corev1.Node, facts Facts) []Finding {
		n := len(facts.Accusers)
		if n < manyAccusers || facts.Nodes < fewNodes || n < manyAccusers*facts.AccusersElsewhere {
			return nil
		}
		return []Finding{{
			Reason: "NodeSuspected", Hold: suspicionHold,
			Description: fmt.Sprintf("node %s says that it is well, but %s fail on it, and on no other: %s", node.Name, count(n, "workload"), some(facts.Accusers)),
			Evidence: []heal.Evidence{
				{Path: fmt.Sprintf("pods[?(@.spec.nodeName==%q)].metadata.ownerReferences", node.Name), Value: some(facts.Accusers)},
			},
			Metadata: map[string]string{"workloads_failing": strconv.Itoa(n), "workloads": some(facts.Accusers), "nodes": strconv.Itoa(facts.Nodes)},
		}}
	},
	Excuse: conditionExcuse,
	Clear:  func(t Thresholds) time.Duration { return t.NodeCheckInterval },
}

const (
	// manyAccusers is how many workloads must fail on a node only, and how many
	// times as many as on any other node. What fails everywhere alike, such as
	// all that needs one registry, is no node's fault.
	manyAccusers  = 3
	fewNodes      = 3
	suspicionHold = 10 * time.Minute
)

// some names the first few of names.
func some(names []string) string {
	const few = 4
	if len(names) <= few {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
}

// MayBlameNode reports whether what a detector of pods finds can be the fault
// of the pod's node.
func MayBlameNode(detector string) bool {
	for i := range Pods {
		if Pods[i].Name == detector {
			return Pods[i].BlamesNode
		}
	}
	return false
}
