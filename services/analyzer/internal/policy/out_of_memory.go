package policy

import "github.com/selfheal/selfheal/pkg/heal"

// outOfMemory restarts for want of memory once at most. If it happens again,
// the memory is too little or never given back, and every strategy of the
// table would only start what ends in the same way.
func outOfMemory(c Case, s heal.Strategy) (heal.Strategy, string, string, bool) {
	again := c.Similar > 0 && s == heal.Restart
	return heal.Monitor, reasonMoreMemory, "it ran out of memory again; it needs a higher memory limit, or its leak mended",
		again && c.Failure.Type == heal.PodFailure && c.Failure.Reason == "OOMKilled"
}

const reasonMoreMemory = "MoreMemoryNeeded"
