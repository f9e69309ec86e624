package guard

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/selfheal/selfheal/pkg/heal"
)

// gitops proposes what it does not do: to change in the cluster what Git
// declares, which would be put back at the next sync.
func gitops(in Input) heal.Verdict {
	who := heal.Clean(in.Failure.Metadata[heal.MetadataManagedBy], 160)
	if who == "" {
		return allow("nobody is known to put it back")
	}
	what, instead := declared(in)
	if what == "" {
		return allow(fmt.Sprintf("%s changes nothing that %s would put back", in.Strategy, who))
	}
	return veto(heal.ReasonManagedByGitOps, fmt.Sprintf("%s is managed by %s, which would put its %s back: %s", in.Failure.Affected(), who, what, instead))
}

// declared is what the strategy changes of what Git may declare, and what to
// do instead; empty if that is nothing. A restart and a pod made anew change
// what is in the cluster alone.
func declared(in Input) (what, instead string) {
	t := in.Failure.Affected()
	switch in.Strategy {
	case heal.Rollback:
		return "template", fmt.Sprintf("revert its last change there; until that is synced, this helps: kubectl rollout undo %s/%s -n %s", strings.ToLower(t.Kind), t.Name, t.Namespace)
	case heal.Resize:
		if t.Kind == "PersistentVolumeClaim" {
			return "size", "raise spec.resources.requests.storage there"
		}
		return "limits", "raise the memory limit there"
	case heal.Failover, heal.EmergencyFailover:
		return "selector", "change it there to " + cmp.Or(heal.Clean(in.Failure.Metadata["standby"], 128), "that of the standby")
	}
	return "", ""
}
