package watch

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/stream"
)

// A source is one kind, being watched.
type source struct {
	kind
	w     *Watcher
	view  view
	roll  *weights // everything there is, by name
	parts []*part  // one for each namespace, or one for all

	counting sync.Mutex // held while a fall of roll belongs to a reading that is being counted

	// Guarded by Watcher.mu.
	held    shelf             // suspects; everything if the kind is kept
	fetched map[name]struct{} // being asked for, because we do not hold it
}

// A name is that of an object of a known kind.
type name struct{ Namespace, Name string }

func nameOf(obj metav1.Object) name { return name{obj.GetNamespace(), obj.GetName()} }

// A part is what one stream brings. It is a stream.Handler.
type part struct {
	*source
	index     uint8
	namespace string // empty for all
	health    *health
	glances   *glances // nil: every object is decoded
	stream    *stream.Stream

	synced   atomic.Bool // what there is, or was when we were last here, is known
	complete atomic.Bool // all of it was read, by this process
	first    func()      // called when it is synced
	saved    saved
	readings atomic.Int64
	version  atomic.Pointer[string] // up to here everything was judged
}

func (w *Watcher) source(k kind) *source {
	s := &source{
		kind: k, w: w, roll: newWeights(),
		held: newShelf(k), fetched: map[name]struct{}{},
	}
	if k.Glance {
		s.roll = w.weights
	}
	s.view = k.open(w)
	spaces := w.cfg.Namespaces
	if len(spaces) == 0 {
		spaces = []string{""}
	}
	for i, namespace := range spaces {
		p := &part{
			source: s, index: uint8(i), namespace: namespace,
			health: &health{resource: k.Resource, group: k.Group, namespace: namespace, optional: k.Optional, log: w.log},
		}
		if k.Glance {
			p.glances = newGlances()
		}
		s.parts = append(s.parts, p)
	}
	return s
}

// open prepares the part's stream to go on after from.
func (p *part) open(from string) {
	cfg := stream.Config{
		Client: p.w.server.client, URL: p.w.server.url(p.kind, p.namespace, ""),
		Fields: p.Fields, Labels: p.Labels, Accept: p.accept(), From: from,
		Handler: p, Observer: p.health, Quiet: p.Passing, // API servers keep no cache of events, from which bookmarks come
	}
	if p.Optional {
		cfg.Patience = new(search).patience
	}
	p.stream = stream.New(cfg)
}

// A kind that this cluster does not serve, or does not let us see, and that we
// can do without, is looked for again after the first of these, and then after
// twice as long each time, up to the last: a cluster seldom changes in that.
const (
	lookAgainFirst = 5 * time.Minute
	lookAgainLast  = time.Hour
)

// A search is for a kind that has been looked for in vain. Only its stream uses it.
type search struct{ next time.Duration }

// patience is how long to wait after err; 0: as for any kind.
func (s *search) patience(err error) time.Duration {
	if !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		s.next = 0
		return 0
	}
	wait := max(s.next, lookAgainFirst)
	s.next = min(2*wait, lookAgainLast)
	return wait
}

func (s *source) synced() bool {
	for _, p := range s.parts {
		if !p.synced.Load() {
			return false
		}
	}
	return true
}

// complete reports whether all there is has been read by this process.
func (s *source) complete() bool {
	for _, p := range s.parts {
		if !p.complete.Load() {
			return false
		}
	}
	return true
}

// refresh has everything of the kind read anew, soon.
func (s *source) refresh() {
	for _, p := range s.parts {
		if p.complete.Load() { // else it is being read
			p.stream.Refresh()
		}
	}
}

// key is what sources are found by.
func (k kind) key() string {
	if k.Own {
		return ownPrefix + k.Version + "/" + k.Kind
	}
	return k.Version + "/" + k.Kind
}

// ownPrefix keeps what own detectors find apart from what ours do, which may
// look at the same object, as it may at another version of it.
const ownPrefix = "own/"

// subject is what the book calls an object of the kind.
func (k kind) subject(uid string) string {
	if k.Own {
		return k.key() + "/" + uid
	}
	return uid
}

// sourceOf is the source of an object that the book names, and the object's
// UID; nil if it is not watched.
func (w *Watcher) sourceOf(t heal.Target) (s *source, uid string) {
	if i := strings.LastIndexByte(t.UID, '/'); i >= 0 && strings.HasPrefix(t.UID, ownPrefix) {
		return w.sources[t.UID[:i]], t.UID[i+1:]
	}
	return w.sources[t.APIVersion+"/"+t.Kind], t.UID
}

// partOf is the part in which a namespace is seen, or nil.
func (s *source) partOf(namespace string) *part {
	for _, p := range s.parts {
		if p.namespace == "" || p.namespace == namespace {
			return p
		}
	}
	return nil
}

// Begin is part of stream.Handler, as what follows.
func (p *part) Begin() {
	p.roll.begin(p.index)
}

// Object takes in an object as it is now. Nearly all are dull, and cost no
// more than a glance.
func (p *part) Object(o *stream.Object) {
	entry := weight{uid: makeUID(o.UID), part: p.index}
	var dull bool
	if p.glances != nil && !o.JSON {
		if g, ok := p.glances.of(o.Data); ok {
			dull = g.dull
			entry.load, entry.node, entry.counts, entry.restarts = g.load, g.node, !g.ended, uint16(g.restarts)
		}
	}
	var before weight
	var known bool
	if !p.Passing {
		before, known = p.roll.put(p.roll.key(o.Namespace, o.Name), entry)
		known = known && before.uid == entry.uid
	}
	if dull && before.restarts == entry.restarts && p.boring(o, before, known) {
		return
	}
	obj, err := p.decode(o)
	if err != nil {
		p.w.log.Warn("an object cannot be decoded; going on without it", "resource", p.Resource, "group", p.Group,
			"namespace", string(o.Namespace), "name", string(o.Name), "err", err)
		return
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if before.uid != (uid{}) && !known { // replaced while we did not look
		p.gone(before.uid.String())
	}
	p.changed(obj, known, time.Now())
}

// boring reports whether nothing is known of an object that looks dull which
// would make it interesting.
func (p *part) boring(o *stream.Object, before weight, known bool) bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	switch {
	case p.w.book.Follows(o.UID):
		return false
	case p.view.remembers != nil && p.view.remembers(o.UID):
		return false
	case before.uid != (uid{}) && !known:
		return false
	}
	if len(p.fetched) > 0 { // then there is a reason to judge it
		_, asked := p.fetched[name{string(o.Namespace), string(o.Name)}]
		return !asked
	}
	return true
}

// decode makes an object of o that holds what is needed of it, and no part of
// the buffer.
func (s *source) decode(o *stream.Object) (metav1.Object, error) {
	full := s.New()
	if err := stream.Decode(o, full); err != nil {
		return nil, err
	}
	return s.slim(full)
}

func (s *source) slim(full object) (metav1.Object, error) {
	obj, ok := s.Slim(full).(metav1.Object)
	if !ok {
		return nil, errors.New("no object is left of it")
	}
	return obj, nil
}

// Deleted takes in that an object is gone.
func (p *part) Deleted(o *stream.Object) {
	id := makeUID(o.UID)
	if !p.Passing {
		p.roll.drop(p.roll.key(o.Namespace, o.Name), id)
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	n := name{string(o.Namespace), string(o.Name)}
	delete(p.fetched, n)
	p.held.drop(n, id)
	p.gone(string(o.UID))
}

// Complete takes in that everything there is was told: what was not is gone.
func (p *part) Complete() {
	p.counting.Lock()
	gone := p.roll.end(p.index)
	p.readings.Add(1)
	p.counting.Unlock()
	p.synced.Store(true)
	p.complete.Store(true)
	p.first()
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	ids := make(map[uid]bool, len(gone))
	for _, id := range gone {
		ids[id] = true
		p.gone(id.String())
	}
	p.held.dropAll(ids)
	p.w.poke()
}

// Resumed takes in that we go on where a watcher before us was.
func (p *part) Resumed() {
	p.synced.Store(true)
	p.first()
	time.AfterFunc(settleAfter+rand.N(settleSpread), p.stream.Refresh)
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.w.poke()
}

// At takes in that everything up to version was told, and so was judged.
func (p *part) At(version string) { p.version.Store(&version) }

// changed takes in an object as it is now. Known says that it is not the first
// time. The caller holds mu.
func (s *source) changed(obj metav1.Object, known bool, now time.Time) {
	n, id := nameOf(obj), string(obj.GetUID())
	delete(s.fetched, n)
	if held, ok := s.held.has(n); ok {
		switch {
		case held != makeUID([]byte(id)):
			s.held.drop(n, held)
			s.gone(held.String())
		case older(obj, s.held.get(n)):
			return // the API server was quicker when we asked it for this one
		}
	}
	if s.Keep {
		s.held.put(n, obj)
	}
	s.view.change(obj, known, now)
	s.look(obj, now)
}

// look judges an object. The caller holds mu.
func (s *source) look(obj metav1.Object, now time.Time) {
	tracked := s.w.book.Tracked(s.subject(string(obj.GetUID())))
	sightings := s.view.judge(obj, now, tracked)
	if len(sightings) > 0 || len(tracked) > 0 {
		s.w.see(s.kind, obj, sightings, now)
	}
	s.hold(obj)
}

// hold keeps an object for as long as it is suspect. The caller holds mu.
func (s *source) hold(obj metav1.Object) {
	switch {
	case s.Keep:
	case s.w.book.Follows([]byte(s.subject(string(obj.GetUID())))):
		s.held.put(nameOf(obj), obj)
	default:
		s.held.drop(nameOf(obj), makeUID([]byte(obj.GetUID())))
	}
}

// suspects reports whether an object is suspect, and so is judged again when
// something comes to be known about it. The caller holds mu.
func (w *Watcher) suspects(k kind, namespace, named string) bool {
	s := w.sources[k.key()]
	if s == nil {
		return true
	}
	_, held := s.held.has(name{namespace, named})
	return held
}

// release lets go of an object that is suspect no longer. The caller holds mu.
func (s *source) release(n name, id string) {
	if !s.Keep && !s.w.book.Follows([]byte(s.subject(id))) {
		s.held.drop(n, makeUID([]byte(id)))
	}
}

// gone takes in that an object does not exist any more. The caller holds mu.
func (s *source) gone(id string) {
	s.view.forget(id)
	s.w.enqueue(s.w.book.Gone(time.Now(), s.subject(id)))
}

// older reports whether a is certainly an earlier version of an object than b.
func older(a, b metav1.Object) bool {
	order, err := resourceversion.CompareResourceVersion(a.GetResourceVersion(), b.GetResourceVersion())
	return err == nil && order < 0
}
