package command

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/cli/internal/local"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/kube"
)

// An installation is what a verb is told of a release of the chart, whose
// objects it changes.
type installation struct {
	kubeconfig, context string
	namespace, name     string
	timeout             time.Duration
}

// flags adds those of an installation to the verb; kind says of what the name
// is the beginning.
func (i *installation) flags(c *cobra.Command, kind string, timeout time.Duration) {
	f := c.Flags()
	f.StringVarP(&i.namespace, "namespace", "n", heal.Product, "the namespace that the services run in")
	f.StringVar(&i.name, "name", heal.Product, "what the "+kind+"' names begin with: the release's full name")
	f.StringVar(&i.kubeconfig, "kubeconfig", "", "kubeconfig file; else the cluster this runs in, else $KUBECONFIG, else ~/.kube/config")
	f.StringVar(&i.context, "context", "", "the context of the kubeconfig, if not its current one")
	f.DurationVar(&i.timeout, "timeout", timeout, "how long to try")
}

// client talks to the installation's cluster, as agent.
func (i *installation) client(agent string) (kubernetes.Interface, error) {
	config, err := local.Config(i.kubeconfig, i.context, agent)
	if err != nil {
		return nil, err
	}
	return kube.Client(config)
}

// within is ctx for as long as the verb may try.
func (i *installation) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, i.timeout, fmt.Errorf("it took longer than --timeout %s", i.timeout))
}
