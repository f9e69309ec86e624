package live

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

// owners reads, by API group and kind, the controllers that we know.
var owners = map[string]func(context.Context, kubernetes.Interface, string, string) (guard.Owner, error){
	"apps/ReplicaSet": func(ctx context.Context, kube kubernetes.Interface, ns, name string) (guard.Owner, error) {
		o, err := kube.AppsV1().ReplicaSets(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return guard.Owner{}, err
		}
		return owner(o.ObjectMeta, count(o.Spec.Replicas), o.Status.ReadyReplicas, o.Spec.Selector)
	},
	"apps/Deployment": func(ctx context.Context, kube kubernetes.Interface, ns, name string) (guard.Owner, error) {
		o, err := kube.AppsV1().Deployments(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return guard.Owner{}, err
		}
		return owner(o.ObjectMeta, count(o.Spec.Replicas), o.Status.ReadyReplicas, o.Spec.Selector)
	},
	"apps/StatefulSet": func(ctx context.Context, kube kubernetes.Interface, ns, name string) (guard.Owner, error) {
		o, err := kube.AppsV1().StatefulSets(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return guard.Owner{}, err
		}
		return owner(o.ObjectMeta, count(o.Spec.Replicas), o.Status.ReadyReplicas, o.Spec.Selector)
	},
	"apps/DaemonSet": func(ctx context.Context, kube kubernetes.Interface, ns, name string) (guard.Owner, error) {
		o, err := kube.AppsV1().DaemonSets(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return guard.Owner{}, err
		}
		return owner(o.ObjectMeta, o.Status.DesiredNumberScheduled, o.Status.NumberReady, o.Spec.Selector)
	},
	"batch/Job": func(ctx context.Context, kube kubernetes.Interface, ns, name string) (guard.Owner, error) {
		o, err := kube.BatchV1().Jobs(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return guard.Owner{}, err
		}
		ready := int32(0)
		if o.Status.Ready != nil {
			ready = *o.Status.Ready
		}
		return owner(o.ObjectMeta, o.Status.Active, ready, o.Spec.Selector)
	},
	"/ReplicationController": func(ctx context.Context, kube kubernetes.Interface, ns, name string) (guard.Owner, error) {
		o, err := kube.CoreV1().ReplicationControllers(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return guard.Owner{}, err
		}
		return owner(o.ObjectMeta, count(o.Spec.Replicas), o.Status.ReadyReplicas, metav1.SetAsLabelSelector(o.Spec.Selector))
	},
}

func owner(meta metav1.ObjectMeta, wanted, ready int32, selector *metav1.LabelSelector) (guard.Owner, error) {
	s, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		return guard.Owner{}, fmt.Errorf("selector: %w", err)
	}
	return guard.Owner{Object: guard.Object{ObjectMeta: meta}, Wanted: int(wanted), Ready: int(ready), Selector: s.String()}, nil
}

// count is spec.replicas, which defaults to 1.
func count(replicas *int32) int32 {
	if replicas == nil {
		return 1
	}
	return *replicas
}

// chain reads ref and what controls it, up to the top. It ends early, and says
// why, where an owner is gone or of an unknown kind.
func (r Reader) chain(ctx context.Context, ns string, ref *metav1.OwnerReference, ahead *foreseen) (chain []guard.Owner, gap string, err error) {
	// Two suffice for what Kubernetes itself makes; a cycle must not hang us.
	for range 4 {
		if ref == nil {
			return chain, "", nil
		}
		o, found := ahead.owner(*ref)
		if !found {
			o, found, err = r.owner(ctx, ns, *ref)
		}
		if err != nil {
			return nil, "", err
		}
		if !found {
			if len(chain) > 0 && !known(*ref) {
				return chain, "", nil // a ReplicaSet of an Argo Rollout: it replaces pods all the same
			}
			return chain, fmt.Sprintf("its owner %s %s is gone", ref.Kind, ref.Name), nil
		}
		chain = append(chain, o)
		ref = metav1.GetControllerOf(&o.ObjectMeta)
	}
	return chain, "its owners go on for ever", nil
}

func known(ref metav1.OwnerReference) bool {
	_, ok := owners[groupKind(ref.APIVersion, ref.Kind)]
	return ok
}

// owner reads one owner; it is not found if it has another UID by now, or a
// kind that is not known.
func (r Reader) owner(ctx context.Context, ns string, ref metav1.OwnerReference) (guard.Owner, bool, error) {
	read, ok := owners[groupKind(ref.APIVersion, ref.Kind)]
	if !ok {
		return guard.Owner{}, false, nil
	}
	o, err := read(ctx, r.Kube, ns, ref.Name)
	if apierrors.IsNotFound(err) {
		return guard.Owner{}, false, nil
	}
	if err != nil {
		return guard.Owner{}, false, fmt.Errorf("read %s %s/%s: %w", ref.Kind, ns, ref.Name, err)
	}
	o.Kind, o.APIVersion = ref.Kind, ref.APIVersion
	return o, o.UID == ref.UID, nil
}

// Owner reads the controller t; false if it is gone or replaced.
func (r Reader) Owner(ctx context.Context, t heal.Target) (guard.Owner, bool, error) {
	return r.owner(ctx, t.Namespace, metav1.OwnerReference{APIVersion: t.APIVersion, Kind: t.Kind, Name: t.Name, UID: uid(t.UID)})
}

// PodsBeside reads the pods that o controls, as they were when p, which is one
// of them, was as it is, or later. It is the one read that the API server may
// answer from what it remembers: a list of what is true just now waits there
// until it has heard of all that was written, which takes up to 100 ms
// (https://github.com/kubernetes/enhancements/tree/master/keps/sig-api-machinery/2340-Consistent-reads-from-cache).
// So it is good for looking back at, not for judging by.
func (r Reader) PodsBeside(ctx context.Context, p *corev1.Pod, o guard.Owner) ([]corev1.Pod, error) {
	return r.controlled(ctx, o.Target(), metav1.ListOptions{
		LabelSelector: o.Selector, ResourceVersion: p.ResourceVersion, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
}

// PodsOfTarget reads the pods that t, whose pods match selector, controls.
func (r Reader) PodsOfTarget(ctx context.Context, t heal.Target, selector string) ([]corev1.Pod, error) {
	return r.controlled(ctx, t, metav1.ListOptions{LabelSelector: selector})
}

func (r Reader) controlled(ctx context.Context, t heal.Target, which metav1.ListOptions) ([]corev1.Pod, error) {
	all, err := r.list(ctx, t.Namespace, which)
	if err != nil {
		return nil, fmt.Errorf("pods of %s: %w", t, err)
	}
	var pods []corev1.Pod
	for i := range all {
		if ref := metav1.GetControllerOf(&all[i]); ref != nil && string(ref.UID) == t.UID {
			pods = append(pods, all[i])
		}
	}
	return pods, nil
}

// Pods reads the pods of a namespace that match selector, whosever they are.
func (r Reader) Pods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error) {
	return r.list(ctx, namespace, metav1.ListOptions{LabelSelector: selector})
}

func (r Reader) list(ctx context.Context, namespace string, which metav1.ListOptions) ([]corev1.Pod, error) {
	list, err := r.Kube.CoreV1().Pods(namespace).List(ctx, which)
	if err != nil {
		return nil, fmt.Errorf("list pods of namespace %s with %s: %w", namespace, which.LabelSelector, err)
	}
	return list.Items, nil
}

// groupKind is the API group, without version, and the kind.
func groupKind(apiVersion, kind string) string {
	group, _, found := strings.Cut(apiVersion, "/")
	if !found {
		group = ""
	}
	return group + "/" + kind
}
