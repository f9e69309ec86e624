// Package observe has a watcher look at itself, every second, and say how well
// it sees: to the log when that changes, and to the bus then and now and then,
// where those who act read it. What to make of what is seen is the business of
// package doubt.
//
// It promises that nothing is said before what earlier watchers said was read,
// and that Begun is closed when the first word is stored: whoever waits for it
// never speaks of failures before it is known how well he sees.
package observe

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/pause"
	"github.com/selfheal/selfheal/services/watcher/internal/doubt"
)

// Config says what is looked at. Bus, Log, Kinds and Nodes are required.
type Config struct {
	Bus *bus.Bus
	Log *slog.Logger

	Kinds  func() []doubt.Kind                               // how well each kind is seen
	Nodes  func() []doubt.Node                               // all that are seen
	Again  func(resource string)                             // has everything of a resource read again; default: nobody can
	Leases func(context.Context) (all, stale int, err error) // of nodes; default: they cannot be read
	Skew   func() (ahead time.Duration, known bool)          // our clock minus the API server's; default: not known

	Settle time.Duration // how long to look without acting after a cold start; default 30 s
	Every  time.Duration // between looks; default 1 s
	Beat   time.Duration // between words although nothing changed; default heal.ObserverBeat
}

const (
	defaultSettle = 30 * time.Second
	defaultEvery  = time.Second

	retryFirst = 100 * time.Millisecond // then twice as long each time …
	retryLimit = 5 * time.Second        // … up to this

	leasesTimeout = 15 * time.Second
)

// An Observer is a watcher's view of itself. It is safe for concurrent use.
type Observer struct {
	cfg   Config
	id    string
	start time.Time
	store *bus.Store[heal.Observer]
	begun chan struct{} // closed when the first word is stored
	wake  chan struct{} // holds one token: there is news to be stored

	mu     sync.Mutex // guards what follows
	state  heal.Observer
	leases doubt.Leases
	asking bool // leases are being read
}

// New returns an Observer that does nothing until Run.
func New(cfg Config) *Observer {
	if cfg.Settle == 0 {
		cfg.Settle = defaultSettle
	}
	if cfg.Every == 0 {
		cfg.Every = defaultEvery
	}
	if cfg.Beat == 0 {
		cfg.Beat = heal.ObserverBeat
	}
	now := time.Now()
	host, _ := os.Hostname() // without one, the rest will do
	return &Observer{
		cfg: cfg, start: now,
		id:    heal.ID("o", cfg.Bus.Cluster(), host, fmt.Sprint(os.Getpid()), fmt.Sprint(now.UnixNano())),
		store: bus.NewStore[heal.Observer](cfg.Bus, bus.ObserversBucket),
		begun: make(chan struct{}), wake: make(chan struct{}, 1),
		state: heal.Observer{State: heal.ObserverSettling, Since: now, Doubts: []heal.Doubt{
			{Name: "settling", Detail: "what earlier watchers said has not been read yet", Since: now},
		}},
	}
}

// Begun is closed when it is known to all how well we see.
func (o *Observer) Begun() <-chan struct{} { return o.begun }

// State is how well we see.
func (o *Observer) State() heal.Observer {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.state
}

// Run looks, and says what it sees, until ctx is done.
func (o *Observer) Run(ctx context.Context) {
	before, ok := o.read(ctx)
	if !ok {
		return
	}
	age := time.Duration(-1)
	if !before.SeenAt.IsZero() {
		age = max(0, o.start.Sub(before.SeenAt))
	}
	mind := doubt.NewMind(o.id, before.Inventory)

	var running sync.WaitGroup
	defer running.Wait()
	o.look(ctx, mind, age, &running)
	running.Go(func() { o.say(ctx) })
	tick := time.NewTicker(o.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			o.look(ctx, mind, age, &running)
		}
	}
}

// read returns the latest word of all watchers, as soon as it can be read.
func (o *Observer) read(ctx context.Context) (latest heal.Observer, ok bool) {
	for retry := retryFirst; ; retry = min(2*retry, retryLimit) {
		latest = heal.Observer{}
		err := o.store.All(ctx, func(_ string, v heal.Observer, _ uint64) bool {
			if v.SeenAt.After(latest.SeenAt) && v.Validate() == nil {
				latest = v
			}
			return true
		})
		if err == nil || bus.IsPermanent(err) { // of a word that cannot be understood
			return latest, true
		}
		o.cfg.Log.Debug("what earlier watchers said about their sight cannot be read; trying again", "err", err)
		if !pause.For(ctx, retry) {
			return latest, false
		}
	}
}

// look judges once, and does what the judgement wishes for.
func (o *Observer) look(ctx context.Context, mind *doubt.Mind, before time.Duration, running *sync.WaitGroup) {
	o.mu.Lock()
	leases := o.leases
	o.mu.Unlock()
	now := time.Now()
	f := doubt.Facts{
		Now: now.Round(0), Up: now.Sub(o.start), Before: before, Settle: o.cfg.Settle,
		Kinds: o.cfg.Kinds(), Nodes: o.cfg.Nodes(), Leases: leases,
	}
	if o.cfg.Skew != nil {
		f.Skew, f.SkewKnown = o.cfg.Skew()
	}
	state, news, wish := mind.Judge(f)
	o.mu.Lock()
	was := o.state
	o.state = state
	ask := wish.Leases && !o.asking && o.cfg.Leases != nil
	o.asking = o.asking || ask
	o.mu.Unlock()
	if news {
		o.tell(was, state)
		o.poke()
	}
	if ask {
		running.Go(func() { o.ask(ctx) })
	}
	if o.cfg.Again != nil {
		for _, resource := range wish.Again {
			o.cfg.Log.Info("reading a resource again, as what was read is hard to believe", "resource", resource)
			o.cfg.Again(resource)
		}
	}
}

// ask reads the nodes' leases.
func (o *Observer) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leasesTimeout)
	defer cancel()
	up := time.Since(o.start)
	all, stale, err := o.cfg.Leases(ctx)
	if err != nil && ctx.Err() == nil {
		o.cfg.Log.Warn("the leases of nodes cannot be read", "err", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asking = false
	o.leases.Up = up // not again at once, also if it failed
	if err == nil {
		o.leases.All, o.leases.Stale = all, stale
	} else {
		o.leases.All, o.leases.Stale = 0, 0
	}
}

func (o *Observer) tell(was, is heal.Observer) {
	log := o.cfg.Log.With("observer", o.id, "state", string(is.State), "was", string(was.State))
	var doubts []any
	for _, d := range is.Doubts {
		doubts = append(doubts, slog.String(d.Name, d.Detail))
	}
	switch is.State {
	case heal.ObserverClear:
		log.Info("this watcher sees the cluster clearly", "after", is.Since.Sub(was.Since).Round(time.Second).String())
	case heal.ObserverSettling:
		log.Info("this watcher has just begun: nothing destructive is done on its word", slog.Group("doubts", doubts...))
	default:
		log.Warn("this watcher doubts what it sees: nothing destructive is done on its word", slog.Group("doubts", doubts...))
	}
}

func (o *Observer) poke() {
	select {
	case o.wake <- struct{}{}:
	default: // it is about to be stored anyway
	}
}

// say stores our state when it changes, and now and then.
func (o *Observer) say(ctx context.Context) {
	var rev uint64
	begun, troubled := false, false
	retry := retryFirst
	for {
		var err error
		rev, err = o.write(ctx, rev)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !troubled {
				o.cfg.Log.Warn("how well this watcher sees cannot be stored; trying again", "err", err)
			}
			troubled = true
			if !pause.For(ctx, retry) {
				return
			}
			retry = min(2*retry, retryLimit)
			continue
		}
		retry, troubled = retryFirst, false
		if !begun {
			begun = true
			close(o.begun)
		}
		timer := time.NewTimer(o.cfg.Beat)
		select {
		case <-ctx.Done():
		case <-o.wake:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// write stores our state over the revision that we wrote last, or over
// whatever there is: the key is ours.
func (o *Observer) write(ctx context.Context, rev uint64) (uint64, error) {
	state := o.State()
	var next uint64
	var err error
	if rev == 0 {
		next, err = o.store.Create(ctx, o.id, state)
	} else {
		next, err = o.store.Update(ctx, o.id, state, rev)
	}
	if !errors.Is(err, bus.ErrConflict) {
		if err != nil {
			return rev, err
		}
		return next, nil
	}
	// A write of ours arrived although it seemed not to, or the server lost it.
	_, rev, err = o.store.Get(ctx, o.id)
	if errors.Is(err, bus.ErrNotFound) {
		rev, err = 0, nil
	}
	if err == nil {
		err = errors.New("it was written over")
	}
	return rev, err
}
