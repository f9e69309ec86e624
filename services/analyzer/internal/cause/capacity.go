package cause

import (
	"fmt"
	"strings"

	"github.com/selfheal/selfheal/pkg/heal"
)

// capacity is the cause when there is no room: no node can take the pod, its
// node had to put it out, or a quota is used up.
func capacity(f Facts) heal.Cause {
	fail, text := f.Failure, words(f.Failure)
	found := func(confidence float64, evidence string) heal.Cause {
		return heal.Cause{Kind: heal.CauseCapacity, Confidence: confidence, Evidence: []string{evidence}}
	}
	switch {
	case strings.Contains(text, "exceeded quota"):
		return found(0.95, "a resource quota of the namespace is used up")
	case fail.Reason == "Unschedulable":
		var lacks []string
		for _, o := range strings.Split(fail.Metadata["obstacles"], ",") {
			if what := obstacles[o]; what != "" {
				lacks = append(lacks, what)
			}
		}
		if len(lacks) == 0 {
			return found(0.5, "no node can take the pod")
		}
		return found(0.9, "no node can take the pod: "+strings.Join(lacks, ", "))
	case fail.Type == heal.PodFailure && fail.Reason == "Evicted":
		return found(0.8, "its node had to put it out for want of room")
	case fail.Type == heal.ResourceExhaustion:
		return found(0.7, fmt.Sprintf("%s is short of what it has to give (%s)", fail.Target, heal.Clean(fail.Reason, 64)))
	}
	return heal.Cause{}
}

var obstacles = map[string]string{
	"cpu": "not enough CPU", "memory": "not enough memory", "ephemeral_storage": "not enough local disk", "pods": "too many pods",
	"taint": "taints that it does not tolerate", "cordon": "nodes that take no new pods", "affinity": "its affinities",
	"topology": "its spread over zones or nodes", "ports": "its host ports are taken", "volume": "its volume is elsewhere or not bound",
}
