package verify

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// A Pressure is what must be known to tell whether a node that pods were taken
// from is well again.
type Pressure struct {
	Target    heal.Target  // the node
	Node      *corev1.Node // what has its name now; nil for nothing
	Reason    string       // the condition that says what it is short of
	Workloads []Workload   // whose pods were evicted from it
}

// Judge says how the node and what ran on it are doing.
func (p Pressure) Judge() Sight {
	if p.Node == nil || string(p.Node.UID) != p.Target.UID {
		return Sight{State: Moot, Reason: "NoLongerWanted", Message: p.Target.String() + " is gone"}
	}
	whole, apart := Machine{Workloads: p.Workloads}.whole()
	under := guard.UnderPressure(p.Node, p.Reason)
	checks := []heal.Check{
		{Name: "pressure_gone", Passed: !under, Observed: fmt.Sprintf("%s: %v", p.Reason, under)},
		{Name: "workloads_whole", Passed: whole, Observed: apart},
	}
	switch {
	case under:
		s := Sight{State: Pending, Message: fmt.Sprintf("%s is still under %s, and %s", p.Target, p.Reason, apart), Checks: checks}
		s.Late = &Conclusion{Outcome: heal.Failed, Reason: "PressureRemains", Message: s.Message}
		return s
	case !whole:
		return Sight{State: Pending, Message: fmt.Sprintf("%s is not under %s any more, but %s", p.Target, p.Reason, apart), Checks: checks}
	}
	return Sight{State: Good, Reason: "Verified", Message: fmt.Sprintf("%s is not under %s any more, and %s", p.Target, p.Reason, apart), Checks: checks}
}
