package watch

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/lru"

	"github.com/selfheal/selfheal/pkg/heal"
)

const (
	ownerTimeout = 2 * time.Second // a message waits no longer for the top of its owner chain
	ownersKept   = 4096
)

// A climb reads the one kind of controller that is itself controlled.
type climb struct {
	Group, Version, Kind, Resource string
	Get                            func(ctx context.Context, kube kubernetes.Interface, namespace, name string) (metav1.Object, error)
}

// The steps of owner chains. All other controllers are the top of theirs.
var climbs = []climb{
	{"apps", "apps/v1", "ReplicaSet", "replicasets", func(ctx context.Context, kube kubernetes.Interface, namespace, name string) (metav1.Object, error) {
		return kube.AppsV1().ReplicaSets(namespace).Get(ctx, name, metav1.GetOptions{})
	}},
	{"batch", "batch/v1", "Job", "jobs", func(ctx context.Context, kube kubernetes.Interface, namespace, name string) (metav1.Object, error) {
		return kube.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
	}},
}

// owners finds the top controller of a chain, asking the API server once for
// each controller.
type owners struct {
	kube kubernetes.Interface
	seen *lru.Cache // UID of a controller to the heal.Target that controls it; zero for none
}

func newOwners(kube kubernetes.Interface) *owners {
	return &owners{kube: kube, seen: lru.New(ownersKept)}
}

// top is the uppermost controller above direct, or how far it came until the
// error. A controller that is gone by now is the top of what is known.
func (o *owners) top(ctx context.Context, direct heal.Target) (heal.Target, error) {
	ctx, cancel := context.WithTimeout(ctx, ownerTimeout)
	defer cancel()
	for _, c := range climbs {
		if c.Version != direct.APIVersion || c.Kind != direct.Kind {
			continue
		}
		above, err := o.above(ctx, c, direct)
		if err != nil {
			return direct, fmt.Errorf("owner of %s: %w", direct, err)
		}
		if above != (heal.Target{}) {
			return above, nil
		}
	}
	return direct, nil
}

func (o *owners) above(ctx context.Context, c climb, t heal.Target) (heal.Target, error) {
	if known, ok := o.seen.Get(t.UID); ok {
		return known.(heal.Target), nil
	}
	obj, err := c.Get(ctx, o.kube, t.Namespace, t.Name)
	if err != nil {
		return heal.Target{}, err
	}
	if string(obj.GetUID()) != t.UID {
		return heal.Target{}, fmt.Errorf("another object has its name, with uid %s, want %s", obj.GetUID(), t.UID)
	}
	above := controller(obj)
	o.seen.Add(t.UID, above)
	return above, nil
}
