package watch

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/lru"

	"github.com/selfheal/selfheal/pkg/heal"
)

const (
	ownerTimeout = 2 * time.Second // a message waits no longer for the top of its owner chain
	ownersKept   = 4096
)

// The steps of owner chains: the kinds of controller that are controlled
// themselves. All others are the top of theirs.
var climbs = []kind{
	{Version: "apps/v1", Kind: "ReplicaSet", Group: "apps", Resource: "replicasets", Namespaced: true},
	{Version: "batch/v1", Kind: "Job", Group: "batch", Resource: "jobs", Namespaced: true},
}

// owners finds the top controller of a chain, asking the API server once for
// each controller.
type owners struct {
	metadata func(context.Context, kind, name) (metav1.Object, error)
	seen     *lru.Cache // UID of a controller to the heal.Target that controls it; zero for none
}

func newOwners(s server) *owners {
	return &owners{metadata: s.metadata, seen: lru.New(ownersKept)}
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

func (o *owners) above(ctx context.Context, c kind, t heal.Target) (heal.Target, error) {
	if known, ok := o.seen.Get(t.UID); ok {
		return known.(heal.Target), nil
	}
	obj, err := o.metadata(ctx, c, name{t.Namespace, t.Name})
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
