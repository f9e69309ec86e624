package verify

import (
	"fmt"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Switch is what must be known to tell whether a service that was switched
// over is served.
type Switch struct {
	Target    heal.Target // the service
	Gone      bool        // or replaced
	InPlace   bool        // it has the selector that we gave it
	By        string      // who changed that, if somebody did
	Endpoints int         // ready
	To        string      // the selector, as people write it
}

// Judge says how the service is doing.
func (s Switch) Judge() Sight {
	place := heal.Check{Name: "in_place", Passed: s.InPlace, Observed: "it selects " + s.To}
	ready := heal.Check{Name: "endpoints_ready", Passed: s.Endpoints > 0, Observed: fmt.Sprintf("%d endpoints are ready", s.Endpoints)}
	switch {
	case s.Gone:
		return Sight{State: Moot, Reason: "NoLongerWanted", Message: fmt.Sprintf("%s is gone", s.Target)}
	case !s.InPlace:
		place.Observed = "its selector was changed by " + s.By
		return Sight{State: Bad, Reason: "Overridden", Checks: []heal.Check{place},
			Message: fmt.Sprintf("the selector of %s was changed again, by %s", s.Target, s.By)}
	case s.Endpoints == 0:
		return Sight{State: Pending, Checks: []heal.Check{place, ready}, Message: fmt.Sprintf("%s selects %s, but has no ready endpoints yet", s.Target, s.To)}
	}
	return Sight{State: Good, Reason: "Verified", Subject: s.To, Checks: []heal.Check{place, ready},
		Message: fmt.Sprintf("%s is served by its standby (%s), with %d ready endpoints", s.Target, s.To, s.Endpoints)}
}
