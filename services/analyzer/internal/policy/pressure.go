package policy

import "github.com/selfheal/selfheal/pkg/heal"

// pressure leaves nodes under pressure to their kubelets, which evict pods in
// the order of their priority. To drain or replace the node would move the
// load to the next one.
var pressure = refinement{
	reason: "PressureIsTheKubelets",
	refine: func(c Case, s heal.Strategy) (heal.Strategy, string, bool) {
		under := false
		switch c.Failure.Reason {
		case "MemoryPressure", "DiskPressure", "PIDPressure":
			under = c.Failure.Target.Kind == "Node"
		}
		return heal.Monitor, "the kubelet evicts pods itself until the node has room; if that does not last, requests and limits must fit what is used",
			under && s != heal.Monitor
	},
}
