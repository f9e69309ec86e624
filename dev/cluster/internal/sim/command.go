package sim

import (
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// NewCommand is the simulator as a process of its own.
func NewCommand() *cobra.Command {
	var kubeconfig, cpu, memory, pods string
	cfg := Config{Timing: DefaultTiming()}
	c := &cobra.Command{
		Use:   "node-simulator",
		Short: "Stand in for the kubelets of simulated nodes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			rest, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
			if err != nil {
				return err
			}
			rest.QPS = -1 // thousands of pods start at once
			rest.ContentType = "application/vnd.kubernetes.protobuf"
			rest.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
			client, err := kubernetes.NewForConfig(rest)
			if err != nil {
				return err
			}
			if cfg.Capacity, err = capacity(cpu, memory, pods); err != nil {
				return err
			}
			return New(client, cfg).Run(ctx)
		},
	}
	f := c.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig of the cluster")
	f.DurationVar(&cfg.Heartbeat, "heartbeat", 0, "time between two heartbeats of a node")
	f.DurationVar(&cfg.LeaseDuration, "lease-duration", 0, "leaseDurationSeconds of a node's Lease")
	f.DurationVar(&cfg.Timing.BackoffBase, "backoff-base", cfg.Timing.BackoffBase, "first delay between restarts of a crashing container")
	f.DurationVar(&cfg.Timing.BackoffCap, "backoff-cap", cfg.Timing.BackoffCap, "longest such delay")
	f.StringVar(&cpu, "node-cpu", "32", "capacity of a node")
	f.StringVar(&memory, "node-memory", "64Gi", "capacity of a node")
	f.StringVar(&pods, "node-pods", "110", "capacity of a node")
	return c
}

func capacity(cpu, memory, pods string) (corev1.ResourceList, error) {
	list := corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse("100Gi")}
	for name, value := range map[corev1.ResourceName]string{
		corev1.ResourceCPU: cpu, corev1.ResourceMemory: memory, corev1.ResourcePods: pods,
	} {
		q, err := resource.ParseQuantity(value)
		if err != nil {
			return nil, fmt.Errorf("capacity %s=%q: %w", name, value, err)
		}
		list[name] = q
	}
	return list, nil
}
