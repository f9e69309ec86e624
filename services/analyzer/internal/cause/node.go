package cause

import (
	"fmt"
	"slices"
	"strings"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/analyzer/internal/incident"
)

const (
	fewestOwners = 3 // distinct ones on one node: fewer are a coincidence
	fewestNodes  = 3 // in the cluster: with fewer, most fail on the same one anyway
)

// suspected is the watcher's own word for what this cause looks for.
const suspected = "NodeSuspected"

// node is the cause when pods of several owners fail on one node, and none of
// theirs elsewhere. It makes the node suspect; it does not convict it: no
// number of failing pods earns an action on a node.
func node(f Facts) heal.Cause {
	fail := f.Failure
	if fail.Type != heal.PodFailure || fail.Node == "" {
		return heal.Cause{}
	}
	if n, known := number(fail, "nodes"); known && n < fewestNodes {
		return heal.Cause{}
	}
	_, byNode := f.Group.Failing(f.Now)
	for mark, n := range byNode {
		if n > 0 && mark != incident.Mark(fail.Node) {
			return heal.Cause{} // it fails elsewhere too
		}
	}
	for _, s := range f.Around.Node.States {
		if s.Reason == suspected && s.Open(f.Now) > 0 {
			return heal.Cause{
				Kind: heal.CauseNode, Confidence: 0.85,
				Evidence: []string{fmt.Sprintf("node %s is suspected: pods of several workloads fail on it, and on no other", heal.Clean(fail.Node, 64))},
			}
		}
	}
	owners := []string{fail.Affected().String()}
	for _, e := range f.Around.OnNode.Going(f.Now) {
		if e.Type == heal.PodFailure && !slices.Contains(owners, e.Object) && !elsewhere(f, e) {
			owners = append(owners, e.Object)
		}
	}
	if len(owners) < fewestOwners {
		return heal.Cause{}
	}
	slices.Sort(owners)
	return heal.Cause{
		Kind: heal.CauseNode, Confidence: rounded(0.4 + 0.1*float64(len(owners))),
		Evidence: []string{fmt.Sprintf("pods of %d owners fail on node %s and on no other: %s",
			len(owners), heal.Clean(fail.Node, 64), heal.Clean(strings.Join(owners, ", "), heal.MaxText))},
	}
}

// elsewhere reports whether what is on the node's board is known to fail on
// other nodes as well.
func elsewhere(f Facts, e incident.Entry) bool {
	for _, other := range f.Around.Namespace.Going(f.Now) {
		if other.Object == e.Object && slices.ContainsFunc(other.Nodes, func(n string) bool { return n != f.Failure.Node }) {
			return true
		}
	}
	return false
}
