package verify

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// A Machine is what must be known to tell whether a node that was cordoned and
// drained is well again, or not needed any more.
type Machine struct {
	Target    heal.Target  // the node
	Node      *corev1.Node // what has its name now; nil for nothing
	Now       time.Time    // which tells what the node says from what it said once
	Workloads []Workload   // whose pods were evicted from it
	Drained   bool         // false if it was only cordoned
	Left      int          // pods that could not be evicted
	Why       string       // why it was only cordoned

	Replaced  bool   // its provider was asked to replace or restart the machine
	Leaving   bool   // the machine is being deleted, Ready or not
	Awaits    bool   // the provider makes another, whoever needs it
	Successor string // a Ready node that has come since; empty for none
	Refused   string // why the provider has given up; empty if it has not
}

// A Workload is a controller whose pods were evicted.
type Workload struct {
	heal.Target
	Gone   bool
	Wanted int
	Ready  int
}

// Judge says how the node and what ran on it are doing.
func (m Machine) Judge() Sight {
	whole, apart := m.whole()
	node := heal.Check{Name: "node_ready"}
	moved := heal.Check{Name: "workloads_whole", Passed: whole, Observed: apart}
	checks := []heal.Check{node, moved}
	gone := m.Node == nil || string(m.Node.UID) != m.Target.UID
	well, seen := false, "the node was taken away"
	if m.Node != nil {
		well, seen = guard.NodeWell(m.Node, m.Now)
	}
	if m.Replaced {
		succeeded := heal.Check{Name: "replacement_ready", Passed: m.Successor != "" || !m.Awaits, Observed: "no new node is Ready"}
		if m.Successor != "" {
			succeeded.Observed = "Node/" + m.Successor + " is Ready"
		}
		checks = append(checks, succeeded)
		apart += ", " + succeeded.Observed
		whole = whole && succeeded.Passed
	}
	switch {
	case m.Refused != "" && !gone:
		checks[0].Observed = seen
		return Sight{State: Bad, Reason: "ProviderFailed", Checks: checks,
			Message: fmt.Sprintf("the provider of %s says that it failed: %s", m.Target, m.Refused)}
	case gone && whole:
		checks[0] = heal.Check{Name: "node_ready", Passed: true, Observed: "the node was taken away"}
		return Sight{State: Good, Reason: "NodeReplaced", Subject: "gone/" + m.Successor, Checks: checks,
			Message: fmt.Sprintf("%s was taken away, and %s", m.Target, apart)}
	case gone:
		checks[0].Observed = "the node was taken away"
		return Sight{State: Pending, Checks: checks, Message: fmt.Sprintf("%s was taken away, but %s", m.Target, apart)}
	case well && !m.Leaving:
		checks[0].Passed, checks[0].Observed = true, "Ready"
		return Sight{State: Good, Reason: "Verified", Checks: checks[:1],
			Subject: string(m.Node.UID) + "/" + m.Node.Status.NodeInfo.BootID,
			Message: fmt.Sprintf("%s is Ready again", m.Target)}
	}
	checks[0].Observed = seen
	late := Conclusion{Outcome: heal.Failed, Reason: "NodeStillDown"}
	switch {
	case m.Replaced:
		late.Outcome, late.Reason = heal.TimedOut, "ReplacementLate"
		late.Message = fmt.Sprintf("the machine of %s was asked to be replaced or restarted, which is not done yet (%s); it stays cordoned, and %s", m.Target, seen, apart)
	case !m.Drained:
		late.Reason = m.Why
		late.Message = fmt.Sprintf("%s is cordoned but not drained, and still down (%s): the machine needs a person", m.Target, seen)
	default:
		late.Message = fmt.Sprintf("%s is still down (%s). It is cordoned and %s; %s. The machine needs a person", m.Target, seen, m.drained(), apart)
	}
	return Sight{State: Pending, Checks: checks, Late: &late, Message: fmt.Sprintf("%s is still down: %s", m.Target, seen)}
}

// drained says how far the drain got.
func (m Machine) drained() string {
	switch m.Left {
	case 0:
		return "drained"
	case 1:
		return "drained, but for 1 pod"
	}
	return fmt.Sprintf("drained, but for %d pods", m.Left)
}

// whole reports whether every workload that lost pods has as many Ready as it
// wants, and says so.
func (m Machine) whole() (bool, string) {
	var short []string
	for _, w := range m.Workloads {
		if !w.Gone && w.Ready < w.Wanted {
			short = append(short, fmt.Sprintf("%s has %d of %d pods Ready", w.Target, w.Ready, w.Wanted))
		}
	}
	switch {
	case len(short) > 0:
		return false, strings.Join(short, ", ")
	case len(m.Workloads) == 0:
		return true, "no workload lost a pod"
	case len(m.Workloads) == 1:
		return true, "the workload that lost pods there runs elsewhere"
	}
	return true, fmt.Sprintf("the %d workloads that lost pods there run elsewhere", len(m.Workloads))
}
