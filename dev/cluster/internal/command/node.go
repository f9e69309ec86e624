package command

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/dev/cluster/internal/sim"
)

func newNode() *cobra.Command {
	c := &cobra.Command{
		Use:   "node",
		Short: "Stop, start, press, add and remove simulated nodes",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", "node "+args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(
		nodeCommand("stop NAME", "Silence a node's kubelet; the node becomes NotReady by itself", exactly("NAME"),
			func(ctx context.Context, k kubernetes.Interface, args []string) error {
				return annotate(ctx, k, args[0], sim.AnnotationHeartbeat, "stopped")
			}),
		nodeCommand("start NAME", "Let a stopped node's kubelet go on", exactly("NAME"),
			func(ctx context.Context, k kubernetes.Interface, args []string) error {
				return annotate(ctx, k, args[0], sim.AnnotationHeartbeat, "")
			}),
		nodeCommand("pressure NAME MemoryPressure|DiskPressure|PIDPressure on|off", "Set or clear a pressure condition",
			exactly("NAME", "CONDITION", "on|off"), pressure),
		nodeCommand("remove NAME", "Delete a node", exactly("NAME"),
			func(ctx context.Context, k kubernetes.Interface, args []string) error {
				return k.CoreV1().Nodes().Delete(ctx, args[0], metav1.DeleteOptions{})
			}),
		newNodeAdd(),
	)
	return c
}

func nodeCommand(use, short string, args cobra.PositionalArgs, run func(context.Context, kubernetes.Interface, []string) error) *cobra.Command {
	var at place
	c := &cobra.Command{Use: use, Short: short, Args: args}
	at.flags(c.Flags())
	c.RunE = func(cmd *cobra.Command, args []string) error {
		dir, err := at.existing()
		if err != nil {
			return err
		}
		k, err := client(dir)
		if err != nil {
			return err
		}
		return run(cmd.Context(), k, args)
	}
	return c
}

func newNodeAdd() *cobra.Command {
	var zone string
	var pairs []string
	c := nodeCommand("add NAME", "Add a simulated node", exactly("NAME"),
		func(ctx context.Context, k kubernetes.Interface, args []string) error {
			labels := make(map[string]string)
			for _, p := range pairs {
				key, value, ok := strings.Cut(p, "=")
				if !ok {
					return usageError{fmt.Errorf("--label %q: want key=value", p)}
				}
				labels[key] = value
			}
			_, err := k.CoreV1().Nodes().Create(ctx, sim.NewNode(args[0], zone, labels), metav1.CreateOptions{})
			return err
		})
	c.Flags().StringVar(&zone, "zone", "zone-1", "the node's zone")
	c.Flags().StringArrayVar(&pairs, "label", nil, "further label, as key=value (repeatable)")
	return c
}

var pressureConditions = []string{
	string(corev1.NodeMemoryPressure), string(corev1.NodeDiskPressure), string(corev1.NodePIDPressure), string(corev1.NodeNetworkUnavailable),
}

func pressure(ctx context.Context, k kubernetes.Interface, args []string) error {
	name, kind, state := args[0], args[1], args[2]
	if !slices.Contains(pressureConditions, kind) {
		return usageError{fmt.Errorf("unknown condition %q, want one of %s", kind, strings.Join(pressureConditions, ", "))}
	}
	if state != "on" && state != "off" {
		return usageError{fmt.Errorf("%q: want on or off", state)}
	}
	n, err := k.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	on := strings.FieldsFunc(n.Annotations[sim.AnnotationPressure], func(r rune) bool { return r == ',' || r == ' ' })
	on = slices.DeleteFunc(on, func(s string) bool { return s == kind })
	if state == "on" {
		on = append(on, kind)
	}
	return annotate(ctx, k, name, sim.AnnotationPressure, strings.Join(on, ","))
}

// annotate sets a node's annotation; the empty value removes it.
func annotate(ctx context.Context, k kubernetes.Interface, name, key, value string) error {
	var v *string
	if value != "" {
		v = &value
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]any{key: v}}})
	if err != nil {
		return err
	}
	_, err = k.CoreV1().Nodes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	return err
}
