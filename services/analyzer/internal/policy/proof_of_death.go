package policy

import "github.com/selfheal/selfheal/pkg/heal"

// proofOfDeath keeps emergency_replace for nodes that are known to be off. A
// node that does not answer may still run its pods and write to its volumes;
// only its provider can say that it does not, and none is asked yet.
func proofOfDeath(_ Case, s heal.Strategy) (heal.Strategy, string, string, bool) {
	return heal.DrainAndReplace, "NoProofOfDeath", "no proof that the node is dead", s == heal.EmergencyReplace
}
