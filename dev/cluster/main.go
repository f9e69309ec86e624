// devcluster runs a real Kubernetes control plane with simulated nodes, on one machine, without containers and
// without root: for development and for tests. See README.md.
package main

import (
	"os"

	"github.com/selfheal/selfheal/dev/cluster/internal/command"
	"github.com/selfheal/selfheal/dev/cluster/internal/component"
)

func main() {
	// Before our own command line is parsed: the parts and kubectl have flags of their own, which clash with it.
	if len(os.Args) > 2 && os.Args[1] == "component" {
		os.Exit(component.Run(os.Args[2], os.Args[3:]))
	}
	if len(os.Args) > 1 && os.Args[1] == "kubectl" {
		os.Exit(command.Kubectl(os.Args[2:], os.Stderr))
	}
	os.Exit(command.Main(os.Args[1:]))
}
