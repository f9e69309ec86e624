package watch

import (
	"context"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/selfheal/selfheal/pkg/heal"
)

// What is not suspect is not kept, and has to be asked for when it is to be
// judged again: an object that was failing before a restart, or one about
// which something else has come to be known.

const (
	fetchers     = 8
	fetchTimeout = 10 * time.Second

	// Objects of which only something was said, or measured, can wait: so
	// many are asked for in a second, and so many wait at most.
	asidesPerSecond = 20
	maxAsides       = 10_000
)

// A fetch asks for one object. With a UID, one that is not this is another.
type fetch struct {
	source string
	name   name
	uid    string
}

// wants has an object asked for, once at a time. The caller holds mu.
func (s *source) wants(n name, id string) {
	if _, asked := s.fetched[n]; asked {
		return
	}
	s.fetched[n] = struct{}{}
	s.w.fetches.Add(fetch{s.key(), n, id})
}

// aside is wants for an object that can wait. The caller holds mu.
func (s *source) aside(n name) {
	if _, asked := s.fetched[n]; asked || s.w.asides.Len() >= maxAsides {
		return
	}
	s.fetched[n] = struct{}{}
	s.w.asides.Add(fetch{s.key(), n, ""})
}

// fetchAll asks for what is wanted until ctx is done.
func (w *Watcher) fetchAll(ctx context.Context) {
	for {
		f, ended := w.fetches.Get()
		if ended || ctx.Err() != nil {
			return
		}
		w.sources[f.source].fetch(ctx, f)
		w.fetches.Done(f)
	}
}

// fetchAsides asks for what can wait, one by one.
func (w *Watcher) fetchAsides(ctx context.Context) {
	tick := time.NewTicker(time.Second / asidesPerSecond)
	defer tick.Stop()
	for {
		f, ended := w.asides.Get()
		if ended {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.sources[f.source].fetch(ctx, f)
		w.asides.Done(f)
	}
}

func (s *source) fetch(ctx context.Context, f fetch) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	full := s.New()
	err := s.w.server.get(ctx, s.kind, f.name, full)
	var obj metav1.Object
	if err == nil {
		obj, err = s.slim(full)
	}
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	if _, still := s.fetched[f.name]; !still {
		return // the stream was quicker, and knows at least as much
	}
	delete(s.fetched, f.name)
	switch {
	case apierrors.IsNotFound(err):
		if f.uid != "" {
			s.gone(f.uid)
		}
	case s.Own && apierrors.IsForbidden(err): // nobody said that to list and to watch is not enough
		s.refresh()
	case err != nil: // the book asks again
		s.w.log.Debug("an object cannot be read", "resource", s.Resource, "namespace", f.name.Namespace, "name", f.name.Name, "err", err)
	default:
		id := string(obj.GetUID())
		if f.uid != "" && f.uid != id {
			s.gone(f.uid)
		}
		s.changed(obj, s.roll.has(f.name.Namespace, f.name.Name, makeUID([]byte(id))), time.Now())
	}
}

// look judges one object again, as it is now.
func (w *Watcher) look(t heal.Target) {
	s, uid := w.sourceOf(t)
	if s == nil {
		return
	}
	p := s.partOf(t.Namespace)
	if p == nil || !p.synced.Load() {
		return // the book asks again
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n, now := name{t.Namespace, t.Name}, time.Now()
	obj := s.held.get(n)
	switch {
	case obj != nil && string(obj.GetUID()) == uid:
		s.look(obj, now)
	case p.health.troubled(): // not to see it is no proof
	case p.complete.Load() && !s.roll.has(t.Namespace, t.Name, makeUID([]byte(uid))):
		s.gone(uid)
	default:
		s.wants(n, uid)
	}
}

// lookAgain judges an object of which something else has come to be known.
func (w *Watcher) lookAgain(r ref) {
	s := w.sources[r.Version+"/"+r.Kind]
	if s == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n := name{r.Namespace, r.Name}
	if obj := s.held.get(n); obj != nil {
		s.look(obj, time.Now())
	} else if p := s.partOf(r.Namespace); p != nil && p.synced.Load() && !s.Keep {
		s.aside(n)
	}
}
