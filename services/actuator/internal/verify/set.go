package verify

import (
	"fmt"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// A Set is what must be known to tell whether a StatefulSet or DaemonSet whose
// template we changed is whole again.
type Set struct {
	Target  heal.Target
	Object  *guard.Templated // what has its name now; nil for nothing
	InPlace bool             // it still has the template that we gave it
	Done    string           // what we did to it

	Restarts Restarts // of its pods

	Wanted, Updated, Ready, Available int32  // pods, as its status says
	Stuck                             string // a pod with the template that cannot run, and why; empty if there is none
}

// Judge says how the roll-out is doing.
func (s Set) Judge() Sight {
	o := s.Object
	switch {
	case o == nil, string(o.UID) != s.Target.UID, o.DeletionTimestamp != nil:
		return Sight{State: Moot, Reason: "NoLongerWanted", Message: s.Target.String() + " is gone"}
	case !s.InPlace:
		message := fmt.Sprintf("%s: somebody changed the template again%s: hands off, it has an owner", s.Target, LastWriter(o.ObjectMeta))
		return Sight{State: Bad, Reason: "Overridden", Message: message,
			Checks: []heal.Check{{Name: "template_in_place", Observed: message}}}
	case s.Wanted == 0:
		return Sight{State: Moot, Reason: "NoLongerWanted", Message: s.Target.String() + " wants no pods any more"}
	}
	seen := fmt.Sprintf("%d of %d pods are updated, %d Ready, %d available", s.Updated, s.Wanted, s.Ready, s.Available)
	inPlace := heal.Check{Name: "template_in_place", Passed: true, Observed: s.Done}
	whole := heal.Check{Name: "rolled_out", Observed: seen}
	switch {
	case o.Observed < o.Generation:
		whole.Observed = fmt.Sprintf("the controller has seen generation %d of %d", o.Observed, o.Generation)
		return Sight{State: Pending, Message: fmt.Sprintf("%s: %s", s.Target, whole.Observed), Checks: []heal.Check{inPlace, whole}}
	case s.Updated != s.Wanted, s.Ready != s.Wanted, s.Available != s.Wanted:
		sight := Sight{State: Pending, Message: fmt.Sprintf("%s: %s, but %s", s.Target, s.Done, seen), Checks: []heal.Check{inPlace, whole}}
		if s.Stuck != "" {
			sight.Late = &Conclusion{Outcome: heal.Failed, Reason: "NotFixed", Message: sight.Message + "; " + s.Stuck}
		}
		return sight
	}
	whole.Passed = true
	return s.Restarts.add(Sight{State: Good, Reason: "Verified", Message: fmt.Sprintf("%s: %s, and %s", s.Target, s.Done, seen), Checks: []heal.Check{inPlace, whole}})
}
