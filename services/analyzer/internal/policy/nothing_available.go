package policy

import "github.com/selfheal/selfheal/pkg/heal"

// nothingAvailable keeps from rolling back a deployment only because none of
// its replicas is available: that may be a node, a dependency or a lack of
// room as well. Its pods are failing too, and are acted upon; and a roll-out
// that stalls is a failure of its own.
var nothingAvailable = refinement{
	reason: "PodsAreActedUpon",
	refine: func(c Case, s heal.Strategy) (heal.Strategy, string, bool) {
		return heal.Monitor, "that no replica is available does not say why; what its pods suffer from is acted upon",
			s != heal.Monitor && c.Failure.Type == heal.DeploymentFailure && c.Failure.Reason == "MinimumReplicasUnavailable"
	},
}
