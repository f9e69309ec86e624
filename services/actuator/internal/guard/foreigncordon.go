package guard

import (
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// AnnotationUncordonSeen is set by us on a node whose cordon of ours somebody
// else took away: when we saw it.
const AnnotationUncordonSeen = heal.Domain + "/last-uncordon-seen"

// handsOff is how long a node that somebody else uncordoned is left alone.
const handsOff = 24 * time.Hour

// foreignCordon refuses a node that somebody else cordoned, or that somebody
// else uncordoned after we had cordoned it. The API server does not refuse the
// second: an absent field has no owner.
var foreignCordon = Guard{Name: "foreign_cordon", Judge: func(f Facts) Verdict {
	if f.Node == nil {
		return Allow("%s is not a node", f.Target)
	}
	managers := CordonManagers(f.Node)
	if f.Node.Spec.Unschedulable {
		others := slices.DeleteFunc(slices.Clone(managers), func(m string) bool { return m == heal.FieldManager })
		switch {
		case len(others) > 0:
			return Veto("CordonedByOther", "%s was cordoned by %s, who may be at work on it", f.Target, heal.Clean(strings.Join(others, ", "), 64))
		case len(managers) == 0:
			return Veto("CordonedByOther", "%s was cordoned by somebody unknown, who may be at work on it", f.Target)
		}
		return Allow("%s is cordoned by us alone, for decision %s", f.Target, f.Node.Annotations[heal.AnnotationDecisionID])
	}
	if text, ok := f.Node.Annotations[AnnotationUncordonSeen]; ok {
		seen, err := time.Parse(time.RFC3339, text)
		if err != nil || f.Now.Before(seen.Add(handsOff)) {
			return Veto("UncordonedByOther", "somebody took our cordon from %s (seen %s): hands off for %s", f.Target, heal.Clean(text, 40), handsOff)
		}
	}
	if id := f.Node.Annotations[heal.AnnotationDecisionID]; id != "" && f.Node.Annotations[heal.AnnotationOwnedBy] == heal.FieldManager {
		return Veto("UncordonedByOther", "somebody took the cordon of decision %s from %s: hands off for %s", heal.Clean(id, 32), f.Target, handsOff)
	}
	return Allow("%s is not cordoned", f.Target)
}}
