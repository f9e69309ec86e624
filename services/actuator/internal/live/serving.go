package live

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// Serving counts, by service of the namespace, those of the pods that requests
// are sent to.
func (r Reader) Serving(ctx context.Context, namespace string, pods []corev1.Pod) (map[string]int, error) {
	list, err := r.Kube.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list endpoints of namespace %s: %w", namespace, err)
	}
	ours := map[types.UID]bool{}
	for i := range pods {
		ours[pods[i].UID] = true
	}
	type end struct {
		service string
		pod     types.UID
	}
	seen, serving := map[end]bool{}, map[string]int{} // a pod may stand in several slices: one for each family of addresses
	for _, slice := range list.Items {
		for _, e := range slice.Endpoints {
			if e.TargetRef == nil || !ours[e.TargetRef.UID] || e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			at := end{slice.Labels[discoveryv1.LabelServiceName], e.TargetRef.UID}
			if at.service != "" && !seen[at] {
				seen[at] = true
				serving[at.service]++
			}
		}
	}
	return serving, nil
}

// PodsOfWorkload reads the pods of the top owner of the target, or of the
// target itself if it is a workload; false if it has none.
func (r Reader) PodsOfWorkload(ctx context.Context, f guard.Facts) (top guard.Owner, pods []corev1.Pod, found bool, err error) {
	if _, ok := f.Templated(); ok {
		ref := metav1.OwnerReference{APIVersion: f.Target.APIVersion, Kind: f.Target.Kind, Name: f.Target.Name, UID: uid(f.Target.UID)}
		if top, found, err = r.owner(ctx, f.Target.Namespace, ref); err != nil || !found {
			return top, nil, false, err
		}
	} else if n := len(f.Owners); f.Pod != nil && n > 0 {
		top = f.Owners[n-1]
	} else {
		return top, nil, false, nil
	}
	pods, err = r.Pods(ctx, top.Namespace, top.Selector)
	return top, pods, err == nil, err
}
