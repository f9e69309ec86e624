package guard

import (
	"fmt"

	"github.com/selfheal/selfheal/pkg/heal"
)

// maintenance keeps hands off while people are at work.
func maintenance(in Input) heal.Verdict {
	namespace := in.Failure.Affected().Namespace
	for _, m := range in.Limits.Maintenance {
		if m.Covers(namespace, in.Now) {
			return veto("MaintenanceWindow", fmt.Sprintf("%s is under way (%s)", m.Name, m.Window))
		}
	}
	return allow(fmt.Sprintf("none of %d maintenance windows is under way", len(in.Limits.Maintenance)))
}
