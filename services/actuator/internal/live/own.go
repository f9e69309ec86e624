package live

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// The labels that charts put on pods, and what NATS' own chart calls itself
// (https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels).
const (
	labelName      = "app.kubernetes.io/name"
	labelComponent = "app.kubernetes.io/component"
	natsName       = "nats"
)

// own reads the pods that this system consists of.
func (r Reader) own(ctx context.Context) ([]guard.OwnPod, error) {
	var own []guard.OwnPod
	for _, ns := range r.Reserved {
		list, err := r.Kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{
			LabelSelector: fmt.Sprintf("%s in (%s, %s)", labelName, heal.Product, natsName),
		})
		if err != nil {
			return nil, fmt.Errorf("list our own pods in namespace %s: %w", ns, err)
		}
		for i := range list.Items {
			p := &list.Items[i]
			if p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
				continue
			}
			own = append(own, guard.OwnPod{
				Target: heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)},
				Part:   part(p.Labels), Node: p.Spec.NodeName, Ready: p.DeletionTimestamp == nil && guard.IsReady(p),
			})
		}
	}
	return own, nil
}

func part(labels map[string]string) string {
	component := labels[labelComponent]
	if labels[labelName] == natsName && component == "" {
		return guard.PartNATS
	}
	return component
}

// Home reads those of the namespaces that there are.
func (r Reader) Home(ctx context.Context, names []string) ([]guard.Object, error) {
	var home []guard.Object
	for _, name := range names {
		ns, err := r.namespace(ctx, name)
		if apierrors.IsNotFound(err) {
			continue // such as when we run outside of the cluster
		}
		if err != nil {
			return nil, err
		}
		home = append(home, *ns)
	}
	return home, nil
}
