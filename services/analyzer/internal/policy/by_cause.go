package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/selfheal/selfheal/pkg/heal"
)

// believed is the confidence from which on a cause decides.
const believed = 0.6

// Reasons of decisions that follow from a cause.
const (
	reasonRollout    = "NewRevisionFails"
	reasonNode       = "NodeSuspected"
	ReasonDependency = "WaitsForDependency" // until it is back: whoever keeps the state must see to that
	ReasonBack       = "DependencyIsBack"
	reasonConfig     = "ObjectMissing"
	reasonChanged    = "ConfigChanged"
	reasonRegistry   = "RegistryRefuses"
	reasonCapacity   = "NoCapacity"
)

// byCause is what the cause asks for, if it is known well enough. The symptom
// may be the same each time; what helps is not.
func byCause(c Case, table heal.Strategy) (Choice, bool) {
	f := c.Failure
	if f.Type != heal.PodFailure {
		return Choice{}, false // the others say themselves what they are
	}
	if f.Owner.Kind == "Job" || f.Owner.Kind == "CronJob" || f.Target.Kind != "Pod" {
		return Choice{}, false
	}
	choose := func(s heal.Strategy, reason, why string) (Choice, bool) {
		choice := Choice{Strategy: s, Reason: reason}
		if s == table {
			choice.Steps = []string{why}
		} else {
			choice.Steps = []string{why + ": " + string(s) + " instead of " + string(table)}
		}
		return choice, true
	}
	if c.Back != "" && restartable(f.Reason) {
		return choose(heal.Restart, ReasonBack, fmt.Sprintf("%s, which it waited for, is back, and its own back-off would only delay it", c.Back))
	}
	if c.Cause.Confidence < believed {
		return Choice{}, false
	}
	says := cmp.Or(strings.Join(c.Cause.Evidence, "; "), "the evidence says so")
	switch c.Cause.Kind {
	case heal.CauseRollout:
		if recoverable[heal.DeploymentFailure][f.Owner.Kind] == nil {
			return choose(heal.Monitor, reasonRollout, says+"; no restart changes that, and there is no roll-back for its owner: a person must roll it back")
		}
		if slices.Contains(c.InVain, heal.Rollback) {
			return choose(heal.Monitor, reasonNeverHelped, says+"; but rolling back never helped: a person must look")
		}
		choice, _ := choose(heal.Rollback, reasonRollout, says+"; only the revision before cures that")
		choice.OnOwner = true
		return choice, true
	case heal.CauseNode:
		if !restartable(f.Reason) || slices.Contains(c.InVain, heal.Recreate) {
			return Choice{}, false
		}
		return choose(heal.Recreate, reasonNode, says+"; the pod is made anew elsewhere, and a person should look at the node")
	case heal.CauseDependency:
		return choose(heal.Monitor, ReasonDependency, says+"; no restart brings that back, and the pod is restarted once it is there")
	case heal.CauseConfig:
		if strings.HasSuffix(says, "before this began") {
			return choose(heal.Monitor, reasonChanged, says+"; no restart takes that back: a person must look at the change")
		}
		return choose(heal.Monitor, reasonConfig, says+"; no restart creates it")
	case heal.CauseRegistry:
		return choose(heal.Monitor, reasonRegistry, says+"; no restart changes that, and each pulls again")
	case heal.CauseCapacity:
		return choose(heal.Monitor, reasonCapacity, says+"; a pod made anew needs the same room")
	}
	return Choice{}, false
}

// restartable reports whether a pod with this symptom may be made anew at all.
func restartable(reason string) bool {
	r, known := remedies[symptom{heal.PodFailure, reason}]
	return !known || len(r.may) > 0
}
