// Package watch looks at the cluster's objects as they change, has them
// judged, and publishes the failures that follow.
//
//	streams -> glances -> detectors -> book of episodes -> queue of keys -> store, bus
//
// It promises that
//
//   - a change is judged at once, on the goroutine that brings it, which never
//     waits for NATS or the API server;
//   - what is to be published waits as one key per episode, of which the
//     latest state is published when its turn comes: never a queue that grows,
//     and however many wait of one namespace, those of others go between;
//   - everything is derived from what is seen now and what is stored, so
//     nothing is lost by a restart, by NATS being away, or by a missed change;
//   - of what is well nothing is kept, but for the few kinds by which others
//     are judged, and some 45 bytes for each object;
//   - two watchers of one cluster, or one before and after a restart, agree on
//     the ids of what they publish.
package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/watcher/internal/detect"
	"github.com/selfheal/selfheal/services/watcher/internal/episode"
	"github.com/selfheal/selfheal/services/watcher/internal/own"
	"github.com/selfheal/selfheal/services/watcher/internal/usage"
)

// Config says what is looked for and how often. All fields but Namespaces
// and Own are required.
type Config struct {
	Thresholds detect.Thresholds
	Schedule   episode.Schedule // of announcements
	Recheck    time.Duration    // a suspect is judged again this often even if nothing changes
	Namespaces []string         // to be watched, with rights in these alone; none means all of the cluster
	Own        []own.Kind       // kinds that detectors of the operator's own look at; may be empty
}

const (
	maxSuspects = 100_000

	// workers is how many keys are settled at once. Each waits for the server's
	// disk three times, and what waits together is written together: so many
	// are three times as quick in a storm as 64, and four times as many little
	// more. They exist only while there is work.
	workers = 256

	retryFirst = 100 * time.Millisecond // then twice as long each time …
	retryLimit = 5 * time.Second        // … up to this: how late we may notice that NATS is back
)

// A Watcher watches one cluster.
type Watcher struct {
	cfg       Config
	log       *slog.Logger
	bus       *bus.Bus
	store     *bus.Store[episode.Record]
	server    server
	identity  string // of the server, as positions name it
	positions *bus.Store[position]
	metrics   *metrics
	owners    *owners
	sources   map[string]*source // by version and kind
	queue     workqueue.TypedRateLimitingInterface[turn]
	fetches   workqueue.TypedInterface[fetch]
	asides    workqueue.TypedInterface[fetch]
	wake      chan struct{}   // holds one token: something may be due sooner
	begun     <-chan struct{} // nothing is published before it is closed; nil: at once
	weights   *weights        // what every pod asks for
	using     *usage.Poller   // what is used; nil if nobody asks for that

	detected  atomic.Int64
	troubled  atomic.Bool // the last attempt to publish failed
	forgetful atomic.Bool // the last attempt to read the stored episodes failed

	mu     sync.Mutex // guards what follows, and the views of sources
	book   *episode.Book
	judged map[ref]struct{} // to be judged again: what is known about them has changed

	notes     notes     // what Kubernetes' own events say
	suspicion suspicion // of nodes
	barren    barren    // which workloads have nothing that works
	network   network   // what services lead to
	rooms     rooms     // what nodes can take
	absences  absences  // which nodes are away
	departed  departed  // which are gone

	nodes   map[string]*nodeHistory // by UID
	unready map[string]struct{}     // nodes that say that they are not, by name

	serverVersion string // empty until it is known
}

// A ref names an object, whichever has the name.
type ref struct{ Version, Kind, Namespace, Name string }

// New returns a Watcher that does nothing until Run. A nil Registerer keeps
// no metrics.
func New(cfg Config, kube *rest.Config, b *bus.Bus, log *slog.Logger, reg prometheus.Registerer) (*Watcher, error) {
	m, err := newMetrics(reg)
	if err != nil {
		return nil, err
	}
	if len(cfg.Namespaces) > maxParts {
		return nil, fmt.Errorf("namespaces: %d of them, want at most %d; watch the whole cluster instead", len(cfg.Namespaces), maxParts)
	}
	server, err := connect(kube)
	if err != nil {
		return nil, err
	}
	w := &Watcher{
		cfg:       cfg,
		log:       log,
		bus:       b,
		store:     bus.NewStore[episode.Record](b, bus.EpisodesBucket),
		metrics:   m,
		server:    server,
		identity:  identity(kube),
		positions: bus.NewStore[position](b, bus.PositionsBucket),
		owners:    newOwners(server),
		sources:   map[string]*source{},
		queue:     newQueue(),
		fetches:   workqueue.NewTyped[fetch](),
		asides:    workqueue.NewTyped[fetch](),
		wake:      make(chan struct{}, 1),
		weights:   newWeights(),
		judged:    map[ref]struct{}{},
		departed:  departed{},
		nodes:     map[string]*nodeHistory{},
		unready:   map[string]struct{}{},
		book:      episode.NewBook(episode.Config{Cluster: b.Cluster(), Schedule: cfg.Schedule, Recheck: cfg.Recheck, Max: maxSuspects}),
	}
	w.owners.newest = func(owner heal.Target) string {
		is, _ := w.standing(owner)
		return is.revision
	}
	for _, k := range w.all() {
		if k.Namespaced || len(cfg.Namespaces) == 0 {
			w.sources[k.key()] = w.source(k)
		}
	}
	return w, nil
}

// newQueue is of turns, in which what did not succeed takes a later one.
func newQueue() workqueue.TypedRateLimitingInterface[turn] {
	queue := workqueue.NewTypedWithConfig(workqueue.TypedQueueConfig[turn]{Queue: new(turns)})
	return workqueue.NewTypedRateLimitingQueueWithConfig(
		workqueue.NewTypedItemExponentialFailureRateLimiter[turn](retryFirst, retryLimit),
		workqueue.TypedRateLimitingQueueConfig[turn]{
			DelayingQueue: workqueue.NewTypedDelayingQueueWithConfig(workqueue.TypedDelayingQueueConfig[turn]{Queue: queue}),
		})
}

// Run watches until ctx is done, then finishes what is being published.
func (w *Watcher) Run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	defer w.queue.ShutDown()
	defer w.fetches.ShutDown()
	defer w.asides.ShutDown()

	w.sayBeyond()
	streams := w.start(ctx)
	for range fetchers {
		running.Go(func() { w.fetchAll(ctx) })
	}
	running.Go(func() { w.fetchAsides(ctx) })
	running.Go(func() {
		w.keepPositions(ctx)
		streams.Wait()
		w.leave(context.WithoutCancel(ctx))
	})
	running.Go(func() { w.keepTime(ctx) })
	running.Go(func() { w.remember(ctx) })
	running.Go(func() { w.followDrains(ctx) })
	running.Go(func() { w.followVersion(ctx) })
	running.Go(func() { w.work(ctx) })
	<-ctx.Done()
	return nil
}

const (
	// Kinds are read for the first time a few at once, which takes no longer
	// than all at once, but less memory. One that does not come stands in the
	// way of others no longer than this.
	firstReads    = 1
	firstReadTime = 3 * time.Second
)

// start has every kind followed from where a watcher before us was, and waits
// for none of it.
func (w *Watcher) start(ctx context.Context) *sync.WaitGroup {
	var streams, first sync.WaitGroup
	var unread atomic.Int64
	gate := make(chan struct{}, firstReads)
	for _, s := range w.sources {
		if s.First {
			first.Add(len(s.parts)) // all of them, before anybody waits
		}
	}
	for _, s := range w.sources {
		for _, p := range s.parts {
			unread.Add(1)
			done := func() {}
			if p.First {
				done = sync.OnceFunc(first.Done)
			}
			p.first = sync.OnceFunc(func() {
				done()
				if unread.Add(-1) == 0 { // what reading so much at once took is not needed any more
					debug.FreeOSMemory()
				}
			})
			streams.Go(func() {
				defer done()
				p.open(p.load(ctx))
				if p.First {
					defer time.AfterFunc(firstReadTime, done).Stop()
				} else {
					first.Wait()
				}
				p.run(ctx, gate)
			})
		}
	}
	return &streams
}

// run follows the part until ctx is done; for the first time when it is its
// turn. Of the kind that has most by far it is always the turn.
func (p *part) run(ctx context.Context, gate chan struct{}) {
	if !p.Glance {
		select {
		case gate <- struct{}{}:
		case <-ctx.Done():
			return
		}
		pass, read := sync.OnceFunc(func() { <-gate }), p.first
		p.first = func() { pass(); read() }
		defer time.AfterFunc(firstReadTime, pass).Stop()
		defer pass()
	}
	p.stream.Run(ctx)
}

// Connected reports why the cluster cannot be seen now, or nil.
func (w *Watcher) Connected() error {
	now := time.Now()
	return w.each(func(p *part) error { return p.health.blind(p.synced.Load(), now) })
}

// Active reports why not everything is being watched yet, or nil.
func (w *Watcher) Active() error {
	return w.each(func(p *part) error {
		if !p.synced.Load() {
			return fmt.Errorf("%s: the initial list has not been read yet", p.health.what())
		}
		return nil
	})
}

// each asks every part that we cannot do without, in the order of kinds.
func (w *Watcher) each(ask func(*part) error) error {
	var errs []error
	for _, k := range kinds {
		s := w.sources[k.key()]
		if s == nil || s.Optional {
			continue
		}
		for _, p := range s.parts {
			errs = append(errs, ask(p))
		}
	}
	return errors.Join(errs...)
}

// Detected is how many failures were announced for the first time.
func (w *Watcher) Detected() int64 { return w.detected.Load() }

// find returns an object of a kind that is kept, or one that is suspect, as we
// last saw it; or nil. The caller holds mu.
func (w *Watcher) find(version, kind, namespace, named string) metav1.Object {
	s := w.sources[version+"/"+kind]
	if s == nil {
		return nil
	}
	return s.held.get(name{namespace, named})
}

// see enters sightings into the book; the caller holds mu.
func (w *Watcher) see(k kind, obj metav1.Object, sightings []episode.Sighting, now time.Time) {
	for i := range sightings {
		if sightings[i].State == episode.Failing {
			w.metrics.observations.WithLabelValues(string(sightings[i].Failure.Type)).Inc()
		}
	}
	t := target(k, obj)
	t.UID = k.subject(t.UID)
	w.enqueue(w.book.See(now, t, sightings))
}

// enqueue has something done about keys; the caller holds mu.
func (w *Watcher) enqueue(keys []episode.Key) {
	for _, key := range keys {
		t, _ := w.book.Target(key)
		w.queue.Add(turn{key, t.Namespace})
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
		again := slices.Collect(maps.Keys(w.judged))
		clear(w.judged)
		w.mu.Unlock()
		for _, r := range again {
			w.lookAgain(r)
		}
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

// lookAtAll has everything read again: some objects were passed over while the
// book was full, and nothing is kept of them.
func (w *Watcher) lookAtAll() {
	w.log.Warn("too many objects were failing at once to keep track of all; looking at every object again", "limit", maxSuspects)
	for _, s := range w.sources {
		s.refresh()
	}
}

func target(k kind, obj metav1.Object) heal.Target {
	return heal.Target{
		APIVersion: k.Version, Kind: k.Kind, Namespace: obj.GetNamespace(), Name: obj.GetName(),
		UID: string(obj.GetUID()), ResourceVersion: obj.GetResourceVersion(),
	}
}
