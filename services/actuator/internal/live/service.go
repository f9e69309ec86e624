package live

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/actuator/internal/guard"
)

func (r Reader) service(ctx context.Context, target heal.Target, f *guard.Facts) error {
	s, err := r.Service(ctx, target.Namespace, target.Name)
	if s == nil || err != nil {
		return err
	}
	f.Service, f.Live = s, &guard.Object{Kind: "Service", ObjectMeta: s.ObjectMeta}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		f.Namespace, err = r.namespace(ctx, s.Namespace)
		return err
	})
	g.Go(func() (err error) {
		f.Endpoints, err = r.Endpoints(ctx, s.Namespace, s.Name)
		return err
	})
	return g.Wait()
}

// Service reads one service; nil if there is none of that name.
func (r Reader) Service(ctx context.Context, namespace, name string) (*corev1.Service, error) {
	s, err := r.Kube.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read Service %s/%s: %w", namespace, name, err)
	}
	return s, nil
}

// Endpoints counts what a service has to send requests to: the EndpointSlices
// are what is routed by, whatever its pods say.
func (r Reader) Endpoints(ctx context.Context, namespace, service string) (int, error) {
	list, err := r.Kube.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.Set{discoveryv1.LabelServiceName: service}.String(),
	})
	if err != nil {
		return 0, fmt.Errorf("list endpoints of Service %s/%s: %w", namespace, service, err)
	}
	ready := map[string]bool{} // by address: one may stand in two slices for a moment
	for _, slice := range list.Items {
		for _, e := range slice.Endpoints {
			if e.Conditions.Ready == nil || *e.Conditions.Ready {
				for _, address := range e.Addresses {
					ready[address] = true
				}
			}
		}
	}
	return len(ready), nil
}

// ReadyPods counts the Ready pods with the labels, and those that have been
// Ready since before.
func (r Reader) ReadyPods(ctx context.Context, namespace string, selector map[string]string, before time.Time) (ready, stable int, err error) {
	if len(selector) == 0 {
		return 0, 0, nil // it would match all
	}
	list, err := r.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.Set(selector).String()})
	if err != nil {
		return 0, 0, fmt.Errorf("list pods of %s: %w", labels.Set(selector), err)
	}
	for i := range list.Items {
		p := &list.Items[i]
		if p.DeletionTimestamp != nil || !guard.IsReady(p) {
			continue
		}
		ready++
		for _, c := range p.Status.Conditions {
			if c.Type == corev1.PodReady && c.LastTransitionTime.Time.Before(before) {
				stable++
			}
		}
	}
	return ready, stable, nil
}

// FollowEndpoints is like FollowPods, for the endpoints of a service.
func (r Reader) FollowEndpoints(ctx context.Context, namespace, service string, changed chan<- struct{}) {
	follow(ctx, changed, func() (watch.Interface, error) {
		return r.watcher().DiscoveryV1().EndpointSlices(namespace).Watch(ctx, metav1.ListOptions{
			LabelSelector: labels.Set{discoveryv1.LabelServiceName: service}.String(),
		})
	})
}
