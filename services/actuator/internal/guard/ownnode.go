package guard

import "github.com/selfheal/selfheal/pkg/heal"

// An OwnPod is a pod that this system consists of.
type OwnPod struct {
	heal.Target
	Part  string // PartActuator, PartNATS, or another that does not matter here
	Node  string
	Ready bool
}

// The parts without which nobody heals.
const (
	PartActuator = "actuator"
	PartNATS     = "nats"
)

// ownNode refuses to take the node away that carries what heals the others: the
// last actuator, or so many NATS servers that those elsewhere are no majority.
// Its pods are never evicted by us, but whoever repairs the node stops them.
var ownNode = Guard{Name: "own_node", Judge: func(f Facts) Verdict {
	if f.Node == nil {
		return Allow("%s is not a node", f.Target)
	}
	var actuatorsHere, actuatorsElsewhere, servers, serversHere, serversElsewhere int
	for _, p := range f.Own {
		here := p.Node == f.Node.Name
		switch p.Part {
		case PartActuator:
			if here {
				actuatorsHere++
			} else if p.Ready {
				actuatorsElsewhere++
			}
		case PartNATS:
			servers++
			if here {
				serversHere++
			} else if p.Ready {
				serversElsewhere++
			}
		}
	}
	switch f.OwnNode { // this actuator counts, whatever labels its pod has
	case "":
	case f.Node.Name:
		actuatorsHere = max(1, actuatorsHere)
	default:
		actuatorsElsewhere = max(1, actuatorsElsewhere)
	}
	switch {
	case actuatorsHere > 0 && actuatorsElsewhere == 0:
		return Veto("OwnNode", "%s carries an actuator, and no other is Ready elsewhere: nobody would be left to heal", f.Target)
	case serversHere > 0 && 2*serversElsewhere <= servers:
		return Veto("OwnNode", "%s carries %d of %d NATS servers, and the %d that are Ready elsewhere are no majority", f.Target, serversHere, servers, serversElsewhere)
	}
	return Allow("without %s, %d actuators and %d of %d NATS servers are Ready", f.Target, actuatorsElsewhere, serversElsewhere, servers)
}}
