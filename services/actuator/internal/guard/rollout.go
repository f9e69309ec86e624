package guard

import "time"

// rollout refuses a workload whose controller a person has stopped, or whose
// status is not about what it is meant to be now.
var rollout = Guard{Name: "rollout", Judge: func(f Facts) Verdict {
	w, ok := f.Templated()
	switch {
	case !ok:
		return Allow("%s is not rolled out", f.Target)
	case f.Deployment != nil && f.Deployment.Spec.Paused:
		return Veto("Paused", "%s is paused (spec.paused: true): whoever did that is at work on it", f.Target)
	case w.Observed < w.Generation:
		v := Veto("StatusBehind", "the status of %s is about generation %d, and it is at %d: the %s controller has not caught up",
			f.Target, w.Observed, w.Generation, w.Kind)
		v.Again = 2 * time.Second
		return v
	}
	return Allow("its status is about generation %d, and it is not paused", w.Generation)
}}
