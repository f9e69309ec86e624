package guard

import "time"

// rollout refuses a Deployment whose controller a person has stopped, or whose
// status is not about what it is meant to be now.
var rollout = Guard{Name: "rollout", Judge: func(f Facts) Verdict {
	d := f.Deployment
	switch {
	case d == nil:
		return Allow("%s is not a Deployment", f.Target)
	case d.Spec.Paused:
		return Veto("Paused", "%s is paused (spec.paused: true): whoever did that is at work on it", f.Target)
	case d.Status.ObservedGeneration < d.Generation:
		v := Veto("StatusBehind", "the status of %s is about generation %d, and it is at %d: the Deployment controller has not caught up",
			f.Target, d.Status.ObservedGeneration, d.Generation)
		v.Again = 2 * time.Second
		return v
	}
	return Allow("its status is about generation %d, and it is not paused", d.Generation)
}}
