package live

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// FollowPods sends to changed whenever a pod of namespace that matches
// selector may have changed, until ctx is done. It tells that, not what: the
// receiver reads again. It sends nothing while the watch is away, so the
// receiver must also look now and then by itself.
func (r Reader) FollowPods(ctx context.Context, namespace, selector string, changed chan<- struct{}) {
	follow(ctx, changed, func() (watch.Interface, error) {
		return r.watcher().CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{LabelSelector: selector})
	})
}

// FollowNode is like FollowPods, for one node.
func (r Reader) FollowNode(ctx context.Context, name string, changed chan<- struct{}) {
	follow(ctx, changed, func() (watch.Interface, error) {
		return r.watcher().CoreV1().Nodes().Watch(ctx, metav1.SingleObject(metav1.ObjectMeta{Name: name}))
	})
}

// FollowNamespace is like FollowPods, for one namespace.
func (r Reader) FollowNamespace(ctx context.Context, name string, changed chan<- struct{}) {
	follow(ctx, changed, func() (watch.Interface, error) {
		return r.watcher().CoreV1().Namespaces().Watch(ctx, metav1.SingleObject(metav1.ObjectMeta{Name: name}))
	})
}

func (r Reader) watcher() kubernetes.Interface {
	if r.Watch != nil {
		return r.Watch
	}
	return r.Kube
}

func follow(ctx context.Context, changed chan<- struct{}, open func() (watch.Interface, error)) {
	for ctx.Err() == nil {
		if w, err := open(); err == nil {
			forward(ctx, w, changed)
		}
		rest := time.NewTimer(time.Second)
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
	}
}

func forward(ctx context.Context, w watch.Interface, changed chan<- struct{}) {
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-w.ResultChan():
			if !ok {
				return
			}
			select {
			case changed <- struct{}{}:
			default: // it has been told already
			}
		}
	}
}
