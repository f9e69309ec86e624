package watch

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

const (
	maxTeam = 64 // bytes

	routingTimeout = time.Second // a message waits no longer for it
	routingFresh   = time.Minute // so late a change of it is told at most
)

// A routing is what people wrote on an object for those who tell others of its
// failures, and for those who act on them: the team, the runbook, some labels,
// and what speaks against acting (marks.go), as a failure's metadata tells
// them. Nil for nothing.
type routing map[string]string

// A routingAsked is one that was read, or refused for good.
type routingAsked struct {
	routing
	at time.Time
}

// routingOf is what an object says itself. Anybody may annotate his own.
func routingOf(obj metav1.Object) routing {
	r := onNamespace(obj)
	for _, label := range heal.RoutingLabels {
		if value := obj.GetLabels()[label]; value != "" {
			r[heal.MetadataLabel+label] = shared(clip(value))
		}
	}
	r.declare(obj)
	return r
}

// onNamespace is what an object says for those in it as well.
func onNamespace(obj metav1.Object) routing {
	r := routing{}
	annotations := obj.GetAnnotations()
	tell(r, heal.MetadataTeam, shared(strings.TrimSpace(heal.Clean(annotations[heal.AnnotationTeam], maxTeam))))
	tell(r, heal.MetadataRunbook, shared(runbook(annotations[heal.AnnotationRunbook])))
	r.mark(obj)
	return r
}

// runbook is a link that can be shown to people as it is, or empty: half of
// one, and one with a password in it, is none.
func runbook(text string) string {
	if len(text) > heal.MaxText {
		return ""
	}
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || u.User != nil {
		return ""
	}
	if link := u.String(); link == clip(link) { // percent-encoding makes it longer
		return link
	}
	return ""
}

// routed is a failure with the routing of what it affects: of the owner; else,
// where that is of a kind that we do not watch or is gone, of the target. What
// neither says the namespace may. If it cannot be read now, what an earlier
// occurrence said is told; the next one asks again.
func (w *Watcher) routed(ctx context.Context, f, earlier heal.Failure) heal.Failure {
	ctx, cancel := context.WithTimeout(ctx, routingTimeout)
	defer cancel()
	r, err := w.routing(ctx, f)
	if err != nil {
		w.log.Debug("team, runbook and labels not known", "target", f.Target.String(), "err", err)
		r = routingIn(earlier.Metadata)
	}
	if len(r) == 0 {
		return f
	}
	m := maps.Clone(f.Metadata)
	if m == nil {
		m = map[string]string{}
	}
	maps.Copy(m, r)
	f.Metadata = m
	return fit(f)
}

func (w *Watcher) routing(ctx context.Context, f heal.Failure) (routing, error) {
	r := w.ofNamespace(f.Target.Namespace)
	for _, t := range []heal.Target{f.Affected(), f.Target} {
		k, watched := w.kindOf(t)
		if !watched {
			continue
		}
		own, err := w.owners.routing(ctx, k, t, time.Now())
		if err != nil {
			return nil, err
		}
		if own != nil {
			r.nearer(own)
			break
		}
	}
	return r, nil
}

// ofNamespace is what a namespace says, as far as we see. The caller may write
// to it.
func (w *Watcher) ofNamespace(named string) routing {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.find(namespaces.Version, namespaces.Kind, "", named); n != nil {
		return onNamespace(n)
	}
	return routing{}
}

// kindOf is the kind of an object, if we watch it.
func (w *Watcher) kindOf(t heal.Target) (kind, bool) {
	for _, key := range []string{t.APIVersion + "/" + t.Kind, ownPrefix + t.APIVersion + "/" + t.Kind} {
		if s := w.sources[key]; s != nil {
			return s.kind, true
		}
	}
	return kind{}, false
}

// told are the keys of a routing, but for those of labels.
var told = []string{heal.MetadataTeam, heal.MetadataRunbook, heal.MetadataMode, heal.MetadataHoldUntil, heal.MetadataManagedBy}

// routingIn is the routing that a failure tells.
func routingIn(metadata map[string]string) routing {
	r := routing{}
	for key, value := range metadata {
		if slices.Contains(told, key) || strings.HasPrefix(key, heal.MetadataLabel) {
			r[key] = value
		}
	}
	return r
}

// routing is what an object says, as it was a few minutes ago at most; nil if
// it is gone, or may not be read.
func (o *owners) routing(ctx context.Context, k kind, t heal.Target, now time.Time) (routing, error) {
	if known, ok := o.routings.Get(t.UID); ok && now.Sub(known.(routingAsked).at) < routingFresh {
		return known.(routingAsked).routing, nil
	}
	read, err, _ := o.asking.Do("routing/"+t.UID, func() (any, error) {
		r := routingAsked{at: now}
		obj, err := o.metadata(ctx, k, name{t.Namespace, t.Name})
		switch {
		case apierrors.IsNotFound(err), apierrors.IsForbidden(err):
		case err != nil:
			return r, fmt.Errorf("metadata of %s: %w", t, err)
		case string(obj.GetUID()) == t.UID:
			r.routing = routingOf(obj)
		}
		o.routings.Add(t.UID, r)
		return r, nil
	})
	return read.(routingAsked).routing, err
}
