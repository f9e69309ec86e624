package watch

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/singleflight"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/lru"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
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

// owners finds the top controller of a chain, and what it says of itself,
// asking the API server once for each controller, however many ask at once.
type owners struct {
	metadata func(context.Context, kind, name) (metav1.Object, error)
	newest   func(heal.Target) string // the revision of a Deployment, as far as we see; may be empty
	seen     *lru.Cache               // UID of a controller to its link
	routings *lru.Cache               // UID to routingAsked
	asking   singleflight.Group
}

// A link is what a controller says of itself.
type link struct {
	above    heal.Target // what controls it; zero for nothing
	revision string      // of a ReplicaSet
	asOf     string      // the Deployment's revision when that was asked for
}

func newOwners(s server) *owners {
	return &owners{
		metadata: s.metadata, newest: func(heal.Target) string { return "" },
		seen: lru.New(ownersKept), routings: lru.New(ownersKept),
	}
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
		return known.(link).above, nil
	}
	l, err := o.ask(ctx, c, t)
	return l.above, err
}

// revision is the number of the roll-out that made a ReplicaSet; empty if that
// is not known. A roll-out since then may have gone back to it, and given it a
// new number: then it is asked for anew.
func (o *owners) revision(ctx context.Context, set heal.Target, newest string) string {
	if known, ok := o.seen.Get(set.UID); ok && known.(link).asOf == newest {
		return known.(link).revision
	}
	ctx, cancel := context.WithTimeout(ctx, ownerTimeout)
	defer cancel()
	l, err := o.ask(ctx, climbs[0], set)
	if err != nil {
		return ""
	}
	return l.revision
}

func (o *owners) ask(ctx context.Context, c kind, t heal.Target) (link, error) {
	l, err, _ := o.asking.Do("link/"+t.UID, func() (any, error) {
		obj, err := o.metadata(ctx, c, name{t.Namespace, t.Name})
		if err != nil {
			return link{}, err
		}
		if string(obj.GetUID()) != t.UID {
			return link{}, fmt.Errorf("another object has its name, with uid %s, want %s", obj.GetUID(), t.UID)
		}
		l := link{above: controller(obj), revision: clip(obj.GetAnnotations()[detect.RevisionAnnotation])}
		l.asOf = o.newest(l.above)
		o.seen.Add(t.UID, l)
		return l, nil
	})
	return l.(link), err
}
