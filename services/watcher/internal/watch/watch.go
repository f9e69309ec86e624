// Package watch looks at the cluster's objects as they change, has them
// judged, and publishes the failures that follow.
//
//	informers -> detectors -> book of episodes -> queue of keys -> store, bus
//
// It promises that
//
//   - a change is judged at once, on the goroutine that brings it, which never
//     waits for NATS or the API server;
//   - what is to be published waits as one key per episode, of which the
//     latest state is published when its turn comes: never a queue that grows;
//   - everything is derived from what is seen now and what is stored, so
//     nothing is lost by a restart, by NATS being away, or by a missed change;
//   - two watchers of one cluster, or one before and after a restart, agree on
//     the ids of what they publish.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
)

// Config says what is looked for and how often. All fields are required.
type Config struct {
	Thresholds detect.Thresholds
	Schedule   episode.Schedule // of announcements
	Recheck    time.Duration    // a suspect is judged again this often even if nothing changes
}

const (
	maxSuspects = 100_000
	workers     = 64 // publishing waits for the server's disk; many can wait together

	retryFirst = 100 * time.Millisecond // then twice as long each time …
	retryLimit = 5 * time.Second        // … up to this: how late we may notice that NATS is back
)

// A Watcher watches one cluster.
type Watcher struct {
	cfg     Config
	log     *slog.Logger
	bus     *bus.Bus
	store   *bus.Store[episode.Record]
	metrics *metrics
	owners  *owners
	sources map[string]*source // by version and kind
	queue   workqueue.TypedRateLimitingInterface[episode.Key]
	wake    chan struct{} // holds one token: something may be due sooner

	detected  atomic.Int64
	troubled  atomic.Bool // the last attempt to publish failed
	forgetful atomic.Bool // the last attempt to read the stored episodes failed

	mu     sync.Mutex // guards what follows, and the views of sources
	book   *episode.Book
	judged map[ref]struct{} // to be judged again: what is known about them has changed
}

// A ref names an object, whichever has the name.
type ref struct{ Version, Kind, Namespace, Name string }

// A source is one kind, being watched.
type source struct {
	kind
	informer cache.SharedIndexInformer
	handled  cache.ResourceEventHandlerRegistration
	health   *health
	view     view
}

// New returns a Watcher that does nothing until Run. A nil Registerer keeps
// no metrics.
func New(cfg Config, kube kubernetes.Interface, b *bus.Bus, log *slog.Logger, reg prometheus.Registerer) (*Watcher, error) {
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	w := &Watcher{
		cfg:     cfg,
		log:     log,
		bus:     b,
		store:   bus.NewStore[episode.Record](b, bus.EpisodesBucket),
		metrics: m,
		owners:  newOwners(kube),
		sources: map[string]*source{},
		queue: workqueue.NewTypedRateLimitingQueue(
			workqueue.NewTypedItemExponentialFailureRateLimiter[episode.Key](retryFirst, retryLimit)),
		wake:   make(chan struct{}, 1),
		judged: map[ref]struct{}{},
		book:   episode.NewBook(episode.Config{Cluster: b.Cluster(), Schedule: cfg.Schedule, Recheck: cfg.Recheck, Max: maxSuspects}),
	}
	for _, k := range kinds {
		s, err := w.source(k, kube)
		if err != nil {
			return nil, fmt.Errorf("watch %s: %w", k.Resource, err)
		}
		w.sources[k.Version+"/"+k.Kind] = s
	}
	return w, nil
}

func (w *Watcher) source(k kind, kube kubernetes.Interface) (*source, error) {
	s := &source{kind: k, health: &health{resource: k.Resource, group: k.Group, log: w.log}, view: k.Open(w, k)}
	r := s.health.observe(k.reach(kube))
	s.informer = cache.NewSharedIndexInformerWithOptions(cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc:  r.List,
		WatchFuncWithContext: r.Watch,
	}, kube), k.New(), cache.SharedIndexInformerOptions{})
	var err error
	s.handled, err = s.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { w.changed(s, nil, obj) },
		UpdateFunc: func(old, obj any) { w.changed(s, old, obj) },
		DeleteFunc: func(obj any) {
			if last, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = last.Obj
			}
			if o, ok := obj.(metav1.Object); ok {
				w.gone(s, string(o.GetUID()))
			}
		},
	})
	return s, errors.Join(err,
		s.informer.SetTransform(func(obj any) (any, error) { return k.Slim(obj), nil }),
		// Requests have told health already; what is left are streams that broke off.
		s.informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
			w.log.Debug("a watch ended", "resource", k.Resource, "group", k.Group, "err", err)
		}))
}

func (s *source) synced() bool { return s.handled.HasSynced() }

// Rules is what the watcher must be allowed to do. It only ever reads.
func Rules() []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for _, k := range kinds {
		rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{k.Group}, Resources: []string{k.Resource}, Verbs: []string{"list", "watch"}})
	}
	for _, c := range climbs {
		rules = append(rules, rbacv1.PolicyRule{APIGroups: []string{c.Group}, Resources: []string{c.Resource}, Verbs: []string{"get"}})
	}
	return rules
}

// Run watches until ctx is done, then finishes what is being published.
func (w *Watcher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	defer w.queue.ShutDown()

	// What client-go says about its own work is for debugging; what matters
	// to an operator is said by health.
	quiet := klog.NewContext(ctx, logr.FromSlogHandler(w.log.Handler()).V(-int(slog.LevelDebug)))
	for _, s := range w.sources {
		running.Go(func() { s.informer.RunWithContext(quiet) })
	}
	running.Go(func() { w.keepTime(ctx) })
	running.Go(func() { w.remember(ctx) })
	for range workers {
		running.Go(func() { w.work(ctx) })
	}
	<-ctx.Done()
	return nil
}

// Connected reports why the cluster cannot be seen now, or nil.
func (w *Watcher) Connected() error {
	now := time.Now()
	var errs []error
	for _, k := range kinds {
		s := w.sources[k.Version+"/"+k.Kind]
		errs = append(errs, s.health.blind(s.synced(), now))
	}
	return errors.Join(errs...)
}

// Active reports why not everything is being watched yet, or nil.
func (w *Watcher) Active() error {
	var errs []error
	for _, k := range kinds {
		if !w.sources[k.Version+"/"+k.Kind].synced() {
			errs = append(errs, fmt.Errorf("%s: the initial list has not been read yet", k.Resource))
		}
	}
	return errors.Join(errs...)
}

// Detected is how many failures were announced for the first time.
func (w *Watcher) Detected() int64 { return w.detected.Load() }

// find returns an object as we last saw it, or nil.
func (w *Watcher) find(version, kind, namespace, name string) metav1.Object {
	s := w.sources[version+"/"+kind]
	if s == nil {
		return nil
	}
	obj, _, _ := s.informer.GetStore().GetByKey(cache.NewObjectName(namespace, name).String()) // the error is always nil
	o, _ := obj.(metav1.Object)
	return o
}

// changed takes in what an informer brings. Old is nil for a new object.
func (w *Watcher) changed(s *source, oldObj, newObj any) {
	obj, ok := newObj.(metav1.Object)
	if !ok {
		return
	}
	old, _ := oldObj.(metav1.Object)
	if old != nil && old.GetUID() != obj.GetUID() { // replaced while we did not look
		w.gone(s, string(old.GetUID()))
		old = nil
	}
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	s.view.change(old, obj, now)
	tracked := w.book.Tracked(string(obj.GetUID()))
	sightings := s.view.judge(obj, now, tracked)
	if len(sightings) == 0 && len(tracked) == 0 {
		return // nearly always
	}
	// The timer may have judged a newer version already. What is stored is the newest.
	latest := w.find(s.Version, s.Kind, obj.GetNamespace(), obj.GetName())
	if latest == nil || latest.GetUID() != obj.GetUID() {
		return // deleted since; we are about to be told
	}
	if latest != obj {
		sightings = s.view.judge(latest, now, tracked)
	}
	w.see(s, latest, sightings, now)
}

// see enters sightings into the book; the caller holds mu.
func (w *Watcher) see(s *source, obj metav1.Object, sightings []episode.Sighting, now time.Time) {
	for i := range sightings {
		if sightings[i].State == episode.Failing {
			w.metrics.observations.WithLabelValues(string(sightings[i].Failure.Type)).Inc()
		}
	}
	w.enqueue(w.book.See(now, target(s.kind, obj), sightings))
}

func (w *Watcher) gone(s *source, uid string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.view.forget(uid)
	w.enqueue(w.book.Gone(time.Now(), uid))
}

func (w *Watcher) enqueue(keys []episode.Key) {
	for _, key := range keys {
		w.queue.Add(key)
	}
	w.poke()
}

// again has an object judged again, soon: something that it is judged by, and
// that is not part of it, has changed. The caller holds mu.
func (w *Watcher) again(version, kind, namespace, name string) {
	w.judged[ref{version, kind, namespace, name}] = struct{}{}
	w.poke()
}

func (w *Watcher) poke() {
	select {
	case w.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// keepTime judges suspects again when a hold or a calm has passed, when they
// are to be announced again, and now and then.
func (w *Watcher) keepTime(ctx context.Context) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		w.mu.Lock()
		due := w.book.Due(time.Now())
		passedOver := w.book.Skipped()
		for r := range w.judged {
			if obj := w.find(r.Version, r.Kind, r.Namespace, r.Name); obj != nil {
				due = append(due, target(w.sources[r.Version+"/"+r.Kind].kind, obj))
			}
		}
		clear(w.judged)
		w.mu.Unlock()
		for _, t := range due {
			w.look(t)
		}
		if passedOver {
			w.lookAtAll()
		}
		w.mu.Lock()
		next, any := w.book.Next()
		w.mu.Unlock()
		if !any {
			next = time.Now().Add(time.Hour) // wake brings us back earlier
		}
		timer.Reset(max(time.Until(next), time.Millisecond))
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-timer.C:
		}
	}
}

// look judges one object again, as it is now.
func (w *Watcher) look(t heal.Target) {
	s := w.sources[t.APIVersion+"/"+t.Kind]
	if s == nil || !s.synced() {
		return // the book asks again
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	obj := w.find(t.APIVersion, t.Kind, t.Namespace, t.Name)
	if obj == nil || string(obj.GetUID()) != t.UID {
		if !s.health.troubled() {
			w.enqueue(w.book.Gone(now, t.UID))
		}
		return
	}
	w.see(s, obj, s.view.judge(obj, now, w.book.Tracked(t.UID)), now)
}

// lookAtAll judges every object there is: some were passed over while the
// book was full.
func (w *Watcher) lookAtAll() {
	w.log.Warn("too many objects were failing at once to keep track of all; looking at every object again", "limit", maxSuspects)
	for _, s := range w.sources {
		for _, obj := range s.informer.GetStore().List() {
			if o, ok := obj.(metav1.Object); ok {
				w.look(target(s.kind, o))
			}
		}
	}
}

func target(k kind, obj metav1.Object) heal.Target {
	return heal.Target{
		APIVersion: k.Version, Kind: k.Kind, Namespace: obj.GetNamespace(), Name: obj.GetName(),
		UID: string(obj.GetUID()), ResourceVersion: obj.GetResourceVersion(),
	}
}
