package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Serving is how many pods of a workload each service sent requests to
// before it was acted on, and does now.
type Serving struct {
	Workload heal.Target    `json:"workload"`
	Selector string         `json:"selector"` // of its pods
	Before   map[string]int `json:"before"`

	Now    map[string]int `json:"-"`
	Wanted int            `json:"-"` // pods, now: somebody may have scaled it down since
}

// Judge adds to a good sight whether services have no fewer endpoints than
// before. With fewer it is not good yet.
func (s Serving) Judge(sight Sight) Sight {
	if sight.State != Good || len(s.Before) == 0 {
		return sight
	}
	var fewer, enough []string
	for _, service := range slices.Sorted(maps.Keys(s.Before)) {
		before, now := s.Before[service], s.Now[service]
		said := fmt.Sprintf("Service %s has %d of the %d ready endpoints that it had", service, now, before)
		if now < min(before, s.Wanted) {
			fewer = append(fewer, said)
		} else {
			enough = append(enough, said)
		}
	}
	if len(fewer) > 0 {
		seen := strings.Join(fewer, ", ")
		sight.Checks = append(slices.Clone(sight.Checks), heal.Check{Name: "endpoints_kept", Observed: seen})
		sight.State, sight.Subject = Pending, ""
		sight.Message += ", but " + seen
		sight.Late = &Conclusion{Outcome: heal.Failed, Reason: "EndpointsLost", Message: sight.Message}
		return sight
	}
	sight.Checks = append(slices.Clone(sight.Checks), heal.Check{Name: "endpoints_kept", Passed: true, Observed: strings.Join(enough, ", ")})
	return sight
}
