package guard

import "time"

// identity refuses unless the object is the very one that was decided about:
// a pod of a StatefulSet comes back under its old name.
var identity = Guard{Name: "identity", Judge: func(f Facts) Verdict {
	switch {
	case f.Live == nil:
		return Moot("TargetGone", "%s is gone", f.Target)
	case string(f.Live.UID) != f.Target.UID:
		return Moot("TargetReplaced", "%s is another object by now: it has UID %s, the decision is about %s",
			f.Target, f.Live.UID, f.Target.UID)
	case f.Live.DeletionTimestamp != nil:
		return Moot("TargetTerminating", "%s is being deleted since %s", f.Target, f.Live.DeletionTimestamp.UTC().Format(time.RFC3339))
	case f.Namespace != nil && f.Namespace.DeletionTimestamp != nil:
		return Moot("TargetTerminating", "namespace %s is being deleted", f.Namespace.Name)
	}
	return Allow("%s still has UID %s", f.Target, f.Live.UID)
}}
