package detect

import (
	"fmt"
	"strconv"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

const (
	daemonSetExcused = "the daemon set is deleted or has no node to run on; its status is of an older generation; " +
		"no more pods are concerned than there are nodes that are not ready, cordoned, leaving, or ready for less than 5 min"

	daemonHold = 15 * time.Minute
	// noDaemonHold is how long a daemon set may be without any available pod:
	// without a network or a proxy, say, nothing else works either.
	noDaemonHold = 5 * time.Minute
)

// daemonSetExcuse is the event hygiene of daemon sets. It has a pod on nodes
// that come, go or are down, too, and those pods are not its failure. Which
// nodes it is to run on is not known: all that are away are taken to be.
func daemonSetExcuse(d *appsv1.DaemonSet, concerned int32, facts Facts) Excuse {
	switch {
	case d.DeletionTimestamp != nil:
		return Leaving
	case d.Status.ObservedGeneration < d.Generation, concerned > 0 && int(concerned) <= facts.NodesAway:
		return Masked
	}
	return None
}

// rollingDaemon reports whether a daemon set replaces pods of an older
// revision by itself, and some are left.
func rollingDaemon(d *appsv1.DaemonSet) bool {
	return d.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType &&
		d.Status.UpdatedNumberScheduled < d.Status.DesiredNumberScheduled
}

// unavailableHold is how long pods of d may be unavailable.
func unavailableHold(d *appsv1.DaemonSet) time.Duration {
	if d.Status.NumberAvailable == 0 {
		return noDaemonHold
	}
	return daemonHold
}

// daemonSetFinding is what is found of a daemon set. Those that belong to the
// cluster itself are marked: nobody should touch them without being asked to.
func daemonSetFinding(d *appsv1.DaemonSet, reason, what string, hold time.Duration) Finding {
	n := func(i int32) string { return strconv.Itoa(int(i)) }
	s := &d.Status
	f := Finding{
		Reason: reason, Hold: hold,
		Description: fmt.Sprintf("daemon set %s %s: %d of %s available, %d of the latest revision",
			d.Name, what, s.NumberAvailable, count(int(s.DesiredNumberScheduled), "pod"), s.UpdatedNumberScheduled),
		Evidence: []heal.Evidence{
			{Path: "status.desiredNumberScheduled", Value: n(s.DesiredNumberScheduled)},
			{Path: "status.numberUnavailable", Value: n(s.NumberUnavailable)},
			{Path: "status.updatedNumberScheduled", Value: n(s.UpdatedNumberScheduled)},
		},
		Metadata: map[string]string{
			"desired": n(s.DesiredNumberScheduled), "available": n(s.NumberAvailable),
			"unavailable": n(s.NumberUnavailable), "updated": n(s.UpdatedNumberScheduled),
		},
	}
	if s.NumberMisscheduled > 0 {
		f.Evidence = append(f.Evidence, heal.Evidence{Path: "status.numberMisscheduled", Value: n(s.NumberMisscheduled)})
		f.Metadata["misscheduled"] = n(s.NumberMisscheduled)
	}
	if d.Namespace == metav1.NamespaceSystem {
		f.Metadata["addon"] = "true"
	}
	return f
}
