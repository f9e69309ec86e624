package live

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
)

// A Budget is a PodDisruptionBudget that covers a pod.
type Budget struct{ *policyv1.PodDisruptionBudget }

func (b Budget) covers(pod *corev1.Pod) bool {
	selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
	return err == nil && selector.Matches(labels.Set(pod.Labels))
}

// Name is how a person would write it.
func (b Budget) Name() string {
	return fmt.Sprintf("PodDisruptionBudget %s/%s", b.Namespace, b.PodDisruptionBudget.Name)
}

// Why says why it allows no disruption, with its numbers.
func (b Budget) Why() string {
	s := b.Status
	why := fmt.Sprintf("%s allows %d disruptions: %d of %d pods are healthy and %d must be",
		b.Name(), s.DisruptionsAllowed, s.CurrentHealthy, s.ExpectedPods, s.DesiredHealthy)
	switch {
	case b.Spec.MaxUnavailable != nil:
		why += fmt.Sprintf(" (maxUnavailable %s)", b.Spec.MaxUnavailable)
	case b.Spec.MinAvailable != nil:
		why += fmt.Sprintf(" (minAvailable %s)", b.Spec.MinAvailable)
	}
	if s.ObservedGeneration < b.Generation {
		why += ", but its status is out of date"
	}
	return why
}

// SparesUnhealthy reports whether it lets pods go that are not Ready anyway,
// even while too few others are.
func (b Budget) SparesUnhealthy() bool {
	p := b.Spec.UnhealthyPodEvictionPolicy
	return p != nil && *p == policyv1.AlwaysAllow
}

func uid(s string) types.UID { return types.UID(s) }
