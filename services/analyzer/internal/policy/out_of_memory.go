package policy

import "github.com/selfheal/selfheal/pkg/heal"

// outOfMemory restarts for want of memory once at most. If it happens again,
// or is about to, the memory is too little or never given back, and what the
// table asks for would only start what ends in the same way: more is given, as
// far as the owner permits. A rule that asks for something else is not turned
// into that, as more memory changes the workload.
func outOfMemory(c Case, s heal.Strategy) (heal.Strategy, string, string, bool) {
	const why = "; it needs a higher memory limit, or its leak mended"
	f := c.Failure
	if s == heal.Monitor || s == heal.Resize || f.Target.Kind != "Pod" {
		return s, "", "", false
	}
	better := heal.Resize
	if c.Ruled {
		better = heal.Monitor
	}
	atStart := f.Reason == "CrashLoopBackOff" && f.Metadata["last_reason"] == "OOMKilled"
	switch {
	case f.Type == heal.PodFailure && (f.Reason == "OOMKilled" || atStart) && c.Similar > 0:
		return better, reasonMoreMemory, "it ran out of memory again" + why, true
	case f.Type == heal.ResourceExhaustion && f.Reason == "ContainerMemoryNearLimit":
		return better, reasonMoreMemory, "it comes near its memory limit" + why, true
	}
	return s, "", "", false
}

const reasonMoreMemory = "MoreMemoryNeeded"
