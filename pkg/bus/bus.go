// Package bus carries the pipeline's messages over NATS JetStream. It is the
// only package that knows NATS: services see typed topics, typed stores and
// plain errors.
//
// It promises that
//
//   - a message that Publish accepted is stored by the server, and comes
//     to every durable consumer of its topic at least once: assume twice, late
//     and out of order;
//   - a message is never dropped in silence: it is done, tried again, or lies
//     in the dead-letter stream with the reason;
//   - the connection is sought for ever, and while it is away every call fails
//     at once and says so, rather than being sent later behind its caller's back;
//   - everything here may be used by many goroutines at once.
package bus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/sign"
)

// Options say how to reach the bus, and as whom. Service and Cluster are
// required; everything else has a working zero value.
type Options struct {
	URL       string // default nats://127.0.0.1:4222; a comma list for a cluster
	Service   string // watcher, analyzer, actuator, notifier, selfheal
	Cluster   string // second token behind the subject root
	CredsFile string
	NKeyFile  string
	// The private key that signs decisions, and the folder of the public keys
	// of whom decisions are taken. Default: they go, and are taken, unsigned.
	SigningKey  string
	TrustedKeys string
	// Keeper brings every stream up to date, whoever owns it; for who has the
	// right to, where the services have not. Replicas is how many copies it
	// wants of each; default 1, and for anybody else what is there.
	Keeper   bool
	Replicas int
	Log      *slog.Logger          // default: discard
	Metrics  prometheus.Registerer // default: none are kept
	NATS     []nats.Option         // more options, for in-process servers
}

// A Bus is a connection to the pipeline's streams. It is safe for concurrent use.
type Bus struct {
	url     string // for people
	service string
	cluster string
	log     *slog.Logger
	nc      *nats.Conn
	js      jetstream.JetStream
	metrics *metrics
	tracer  trace.Tracer
	limits  map[string]int    // stream to its largest message
	groups  map[string]*group // by stream, of those that take batches
	pace    pace
	waits   waits
	signer  *sign.Signer   // nil: signed topics go unsigned
	trust   *sign.Verifier // nil: they are taken so
	copies  int            // of each stream; 0 unless it is the keeper

	keep sync.WaitGroup // what runs until Close

	mu        sync.Mutex         // guards all below
	connected chan struct{}      // closed and replaced at every connect
	problems  map[string]error   // by what has the problem
	reported  map[string]bool    // what the client reported since the last connect
	dialed    error              // what the last attempt to reach the server came to
	stop      context.CancelFunc // ends the verification of the topology; nil before it began
	closed    bool
}

// A pace is how long the bus waits for things.
type pace struct {
	ackWait time.Duration // the server takes a message for lost after this
	answer  time.Duration // for one request to the server
	retry   time.Duration // between attempts at something that is away
	refresh time.Duration // of the consumers' gauges
	verify  time.Duration // between looks at streams and buckets
	window  time.Duration // within which a double is told by what is stored
}

func defaultPace() pace {
	return pace{
		ackWait: 30 * time.Second,
		answer:  5 * time.Second,
		retry:   time.Second,
		refresh: 10 * time.Second,
		verify:  time.Minute,
		window:  DuplicateWindow,
	}
}

var (
	// ErrPermission is returned when the server refuses a subject to this user.
	ErrPermission = errors.New("permission denied")
	// ErrNotFound is returned by a Store for a key that it does not hold.
	ErrNotFound = errors.New("not found")
	// ErrConflict is returned by a Store when somebody else wrote first.
	ErrConflict = errors.New("written by somebody else")
)

// Connect returns a bus that connects by itself, now or whenever the server
// appears, and reconnects for ever. It fails only for options that can never
// work.
func Connect(o Options) (*Bus, error) {
	if err := heal.ValidClusterName(o.Cluster); err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	if err := checkName("service", o.Service); err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	url, err := checkURL(o.URL)
	if err != nil {
		return nil, err
	}
	auth, err := authOptions(o)
	if err != nil {
		return nil, err
	}
	signer, trust, err := signing(o)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(o.Metrics)
	if err != nil {
		return nil, err
	}
	b := &Bus{
		signer:    signer,
		trust:     trust,
		url:       url,
		service:   o.Service,
		cluster:   o.Cluster,
		log:       o.Log,
		metrics:   m,
		tracer:    otel.Tracer("github.com/selfheal/selfheal/pkg/bus"),
		limits:    map[string]int{},
		groups:    map[string]*group{},
		pace:      defaultPace(),
		connected: make(chan struct{}),
		problems:  map[string]error{},
		reported:  map[string]bool{},
	}
	if o.Keeper {
		b.copies = max(1, o.Replicas)
	}
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	for _, s := range topology() {
		b.limits[s.Name] = int(s.MaxMsgSize)
		if s.AllowAtomicPublish {
			b.groups[s.Name] = &group{b: b, stream: s.Name}
		}
	}
	b.nc, err = nats.Connect(url, slices.Concat(b.connection(), auth, o.NATS)...)
	if err != nil {
		return nil, fmt.Errorf("bus: connect to %s: %w", url, err)
	}
	if b.js, err = jetstream.New(b.nc, jetstream.WithDefaultTimeout(b.pace.answer)); err != nil {
		b.Close()
		return nil, fmt.Errorf("bus: jetstream: %w", err)
	}
	if !b.nc.IsConnected() {
		b.log.Warn("nats is away, trying again until it answers", "url", url)
	}
	return b, nil
}

// Ready reports why the bus cannot be used just now, or nil.
func (b *Bus) Ready() error {
	if b.nc.IsClosed() {
		return errors.New("bus: closed")
	}
	if !b.nc.IsConnected() {
		return b.away()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var errs []error
	for _, about := range slices.Sorted(maps.Keys(b.problems)) {
		errs = append(errs, b.problems[about])
	}
	return errors.Join(errs...)
}

// Close flushes what is buffered and closes the connection.
func (b *Bus) Close() {
	b.mu.Lock()
	b.closed = true
	if b.stop != nil {
		b.stop()
	}
	b.mu.Unlock()
	b.keep.Wait()
	if b.nc.IsConnected() {
		_ = b.nc.FlushTimeout(2 * time.Second) // acknowledgements; what is lost comes again
	}
	b.nc.Close()
}

// Cluster is the cluster whose subjects the bus uses.
func (b *Bus) Cluster() string { return b.cluster }

// problem records, or with nil forgets, why the bus is not ready. It reports
// whether that is news, so that a lasting problem is logged once.
func (b *Bus) problem(about string, err error) (news bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := b.problems[about]
	if err == nil {
		delete(b.problems, about)
		return old != nil
	}
	b.problems[about] = err
	return old == nil || old.Error() != err.Error()
}

// nextConnect returns a channel that is closed when a connection is made.
func (b *Bus) nextConnect() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.connected
}

// wait returns after d, or earlier when a connection is made, and reports
// false when ctx is done.
func (b *Bus) wait(ctx context.Context, d time.Duration) bool {
	connected := b.nextConnect()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-connected:
	case <-ctx.Done():
		return false
	}
	return true
}

func (b *Bus) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}
