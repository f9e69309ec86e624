package watch

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/selfheal/selfheal/services/watcher/internal/doubt"
	"github.com/selfheal/selfheal/services/watcher/internal/stream"
)

// This file is how a watcher looks at itself (package observe): it gathers
// what package doubt judges.

// young is how long a node may take to become ready for the first time.
const young = 10 * time.Minute

// Kinds is how well every kind is seen just now.
func (w *Watcher) Kinds() []doubt.Kind {
	now := time.Now()
	all := make([]doubt.Kind, 0, len(w.sources))
	for _, s := range w.sources {
		if s.Own { // nothing of ours is judged by it
			continue
		}
		k := doubt.Kind{Resource: s.Resource, Optional: s.Optional, Synced: s.synced(), Count: -1}
		k.Unseen, k.Err = s.unseen(now)
		if !k.Optional && !s.Passing && s.Fields == "" {
			k.Count, k.Resyncs = s.census()
		}
		all = append(all, k)
	}
	return all
}

// unseen is for how long requests for the kind have failed, and how; 0 if they
// do not.
func (h *health) unseen(now time.Time) (time.Duration, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		return 0, ""
	}
	return now.Sub(h.since), h.err.Error()
}

// Nodes is every node that we see.
func (w *Watcher) Nodes() []doubt.Node {
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	all := make([]doubt.Node, 0, len(w.nodes))
	for uid, h := range w.nodes {
		if !h.leaving {
			all = append(all, doubt.Node{
				UID: uid, Ready: h.ready, Unknown: h.status == "" || h.status == corev1.ConditionUnknown, Young: now.Sub(h.made) < young,
			})
		}
	}
	return all
}

// leaseRules is what reading the nodes' leases needs.
var leaseRules = []rbacv1.PolicyRule{{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"list"}}}

// Leases counts the nodes' leases, and those that are stale by the API
// server's clock. ahead is ours minus that.
func (w *Watcher) Leases(ctx context.Context, ahead time.Duration) (all, stale int, err error) {
	now := time.Now().Add(-ahead)
	err = w.server.list(ctx, leases, corev1.NamespaceNodeLease, fields.Everything(), func(o *stream.Object) error {
		var l coordinationv1.Lease
		if err := stream.Decode(o, &l); err != nil {
			return err
		}
		all++
		if late(&l, now) {
			stale++
		}
		return nil
	})
	if err != nil {
		return 0, 0, fmt.Errorf("list leases of namespace %s: %w", corev1.NamespaceNodeLease, err)
	}
	return all, stale, nil
}

// leases are read now and then, not watched: every node renews its own.
var leases = kind{
	Version: "coordination.k8s.io/v1", Kind: "Lease", Group: "coordination.k8s.io", Resource: "leases", Namespaced: true,
	New: func() object { return new(coordinationv1.Lease) },
}

func late(l *coordinationv1.Lease, now time.Time) bool {
	return l.Spec.RenewTime == nil || now.Sub(l.Spec.RenewTime.Time) > doubt.LeaseLate
}

// A Clock compares our clock with the API server's, by the dates of its
// answers: no request is made for it. It is safe for concurrent use.
type Clock struct {
	mu    sync.Mutex // guards what follows
	ahead time.Duration
	known bool
}

// Wrap has the dates of what rt answers read.
func (c *Clock) Wrap(rt http.RoundTripper) http.RoundTripper {
	return reading{rt, c}
}

type reading struct {
	http.RoundTripper
	clock *Clock
}

func (r reading) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := r.RoundTripper.RoundTrip(req)
	if err == nil {
		r.clock.read(resp.Header.Get("Date"), time.Now())
	}
	return resp, err
}

// read takes in a date, which is in whole seconds, rounded down.
func (c *Clock) read(date string, now time.Time) {
	then, err := http.ParseTime(date)
	if err != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ahead, c.known = now.Round(0).Sub(then)-time.Second/2, true
}

// Ahead is our clock minus the API server's, when it last answered.
func (c *Clock) Ahead() (ahead time.Duration, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ahead, c.known
}

// SpeakAfter has nothing published before begun is closed, so that whoever acts
// knows how well we see before he hears what. It is called before Run.
func (w *Watcher) SpeakAfter(begun <-chan struct{}) { w.begun = begun }

// maySpeak waits for that, and reports false when ctx is done.
func (w *Watcher) maySpeak(ctx context.Context) bool {
	if w.begun == nil {
		return true
	}
	select {
	case <-w.begun:
		return true
	case <-ctx.Done():
		return false
	}
}

// unseen is for how long the kind has not been seen, where it is worst.
func (s *source) unseen(now time.Time) (worst time.Duration, why string) {
	for _, p := range s.parts {
		if d, err := p.health.unseen(now); d > worst {
			worst, why = d, err
		}
	}
	return worst, why
}

// census is how many objects there are, and how often all of them were read;
// negative if that is not known.
func (s *source) census() (count, readings int) {
	if !s.complete() {
		return -1, 0
	}
	s.counting.Lock()
	defer s.counting.Unlock()
	for _, p := range s.parts {
		readings += int(p.readings.Load())
	}
	return s.roll.Len(), readings
}

// Refresh has everything of a resource read anew, soon.
func (w *Watcher) Refresh(resource string) {
	for _, s := range w.sources {
		if s.Resource == resource {
			s.refresh()
		}
	}
}
