package guard

import "github.com/selfheal/selfheal/pkg/heal"

// oneNode refuses to disrupt a second node while one is out of service because
// of us.
var oneNode = Guard{Name: "one_node", Judge: func(f Facts) Verdict {
	if f.Node == nil {
		return Allow("%s is not a node", f.Target)
	}
	for _, n := range f.Nodes {
		if n.Ours && n.Name != f.Node.Name {
			return Veto(NodeBudget, "Node/%s is still cordoned by us (decision %s), and 1 node may be at a time: repair, uncordon or remove it",
				n.Name, heal.Clean(n.Decision, 32))
		}
	}
	return Allow("no other of %d nodes is cordoned by us", len(f.Nodes))
}}

// NodeBudget is the reason why a second node is not disrupted.
const NodeBudget = "NodeBudget"
