// Package component runs one part of a Kubernetes control plane inside this process. The binary starts itself
// once per part (`devcluster component NAME FLAGS…`), because the parts own process-wide state: klog, feature
// gates, metric registries.
package component

import (
	"fmt"
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"

	"github.com/selfheal/selfheal/dev/cluster/internal/fleet"
	"github.com/selfheal/selfheal/dev/cluster/internal/sim"
)

// The parts, under the names of their own binaries.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	Simulator         = "node-simulator"
	Heartbeat         = "node-heartbeat" // of a static cluster, in place of the three before it
)

// Names lists all parts.
func Names() []string {
	return []string{Etcd, APIServer, ControllerManager, Scheduler, Simulator, Heartbeat}
}

// Run runs the named part until it ends, and returns its exit code.
func Run(name string, args []string) int {
	// client-go and kubectl take their user agent and their help text from os.Args.
	os.Args = append([]string{name}, args...)
	switch name {
	case Etcd:
		etcdmain.Main(os.Args)
		return 0
	case APIServer:
		return cli.Run(apiserver.NewAPIServerCommand())
	case ControllerManager:
		return cli.Run(controllermanager.NewControllerManagerCommand())
	case Scheduler:
		return cli.Run(scheduler.NewSchedulerCommand())
	case Simulator:
		return cli.Run(sim.NewCommand())
	case Heartbeat:
		return cli.Run(fleet.NewCommand())
	}
	fmt.Fprintf(os.Stderr, "unknown component %q\n", name)
	return 2
}

// Kubectl runs kubectl with args, on the cluster of the kubeconfig file, and returns its exit code.
func Kubectl(kubeconfig string, args []string) int {
	os.Args = append([]string{"kubectl"}, args...)
	// Through the environment, so that --kubeconfig among the arguments still wins, as with any kubectl.
	if err := os.Setenv("KUBECONFIG", kubeconfig); err != nil {
		fmt.Fprintf(os.Stderr, "set KUBECONFIG: %v\n", err)
		return 1
	}
	c := kubectl.NewDefaultKubectlCommand()
	c.SetArgs(args)
	if err := cli.RunNoErrOutput(c); err != nil {
		util.CheckErr(err) // prints as kubectl does, and exits
	}
	return 0
}
