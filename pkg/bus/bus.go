// Package bus carries the pipeline's messages over NATS JetStream. It is the
// only package that knows NATS: services see typed topics, typed stores and
// plain errors.
package bus

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/selfheal/selfheal/pkg/heal"
)

// Options say how to reach the bus, and as whom. Service and Cluster are
// required; everything else has a working zero value.
type Options struct {
	URL       string // default nats://127.0.0.1:4222; a comma list for a cluster
	Service   string // watcher, analyzer, actuator, notifier, selfheal
	Cluster   string // second token behind the subject root
	CredsFile string
	NKeyFile  string
	Log       *slog.Logger          // default: discard
	Metrics   prometheus.Registerer // default: none are kept
	NATS      []nats.Option         // more options, for in-process servers
}

// A Bus is a connection to the pipeline's streams. It is safe for concurrent use.
type Bus struct{}

// Connect returns a bus that connects by itself, now or whenever the server
// appears, and reconnects for ever. It fails only for options that can never
// work.
func Connect(o Options) (*Bus, error) { panic("stub") }

// Provision makes sure that every stream and bucket exists and looks as
// declared, trying again until ctx is done. A missing one is created; one that
// differs is updated by its owner and only reported by everybody else. It
// returns early only for an error that waiting cannot cure (ErrPermission).
func (b *Bus) Provision(ctx context.Context) error { panic("stub") }

// Ready reports why the bus cannot be used just now, or nil.
func (b *Bus) Ready() error { panic("stub") }

// Close flushes what is buffered and closes the connection.
func (b *Bus) Close() { panic("stub") }

// Cluster is the cluster whose subjects the bus uses.
func (b *Bus) Cluster() string { panic("stub") }

var (
	// ErrPermission is returned when the server refuses a subject to this user.
	ErrPermission = errors.New("permission denied")
	// ErrNotFound is returned by a Store for a key that it does not hold.
	ErrNotFound = errors.New("not found")
	// ErrConflict is returned by a Store when somebody else wrote first.
	ErrConflict = errors.New("written by somebody else")
)

// A Topic ties a payload type to the stream that stores it.
type Topic[T heal.Payload] struct {
	Stream string // with the prefix
	Root   string // first route token of its subjects: "failures"
}

// The pipeline, in order.
var (
	Failures      = Topic[heal.Failure]{Stream: heal.StreamPrefix + "FAILURES", Root: "failures"}
	Decisions     = Topic[heal.Decision]{Stream: heal.StreamPrefix + "DECISIONS", Root: "decisions"}
	Approvals     = Topic[heal.Approval]{Stream: heal.StreamPrefix + "DECISIONS", Root: "approvals"}
	Controls      = Topic[heal.Control]{Stream: heal.StreamPrefix + "DECISIONS", Root: "control"}
	Results       = Topic[heal.Result]{Stream: heal.StreamPrefix + "RESULTS", Root: "results"}
	Notifications = Topic[heal.Notification]{Stream: heal.StreamPrefix + "NOTIFICATIONS", Root: "notifications"}
)

// Publish stores data in its envelope and returns once the server has it.
// Storing the same id again within the stream's duplicate window is success.
// An error marked Permanent cannot be cured by another attempt.
func (t Topic[T]) Publish(ctx context.Context, b *Bus, data T) error { panic("stub") }

// A Consumer is one service's place on a topic.
type Consumer struct {
	Name    string        // durable name
	Filter  string        // further subject tokens, such as "slack.>"; empty means all of the topic
	Workers int           // messages handled at once by this process
	Timeout time.Duration // for one attempt of the handler
	Backoff func(attempt uint64) time.Duration
}

// A Message is an event as it was delivered.
type Message[T heal.Payload] struct {
	heal.Event[T]
	Attempt uint64    // 1 for the first delivery
	Stored  time.Time // when the stream took it
}

// Consume hands messages to handle until ctx is done, then waits for the
// attempts under way. What handle returns decides what becomes of a message:
//
//	nil              done
//	Permanent(err)   moved to the dead-letter stream
//	any other error  tried again after Backoff
//
// A message that does not decode or validate, or that does not belong on its
// subject, is moved to the dead-letter stream unseen; so is one that was
// delivered more than 8 times without being settled with an error (a panic or
// a crash counts as one).
func (t Topic[T]) Consume(ctx context.Context, b *Bus, c Consumer, handle func(context.Context, Message[T]) error) error {
	panic("stub")
}

// A Bucket is a key-value bucket of the topology; it has one writer service.
type Bucket struct {
	Name  string // with the prefix
	Owner string
	TTL   time.Duration // a key not written for so long is gone; 0 keeps it
}

// The buckets.
var (
	EpisodesBucket  = Bucket{Name: heal.StreamPrefix + "EPISODES", Owner: "watcher", TTL: 30 * 24 * time.Hour}
	IncidentsBucket = Bucket{Name: heal.StreamPrefix + "INCIDENTS", Owner: "analyzer", TTL: 30 * 24 * time.Hour}
	ActionsBucket   = Bucket{Name: heal.StreamPrefix + "ACTIONS", Owner: "actuator", TTL: 30 * 24 * time.Hour}
)

// A Store keeps values of one type in a bucket, written by compare-and-set.
type Store[V any] struct{}

// NewStore opens bucket lazily: the server may be away.
func NewStore[V any](b *Bus, bucket Bucket) *Store[V] { panic("stub") }

// Get returns the value and its revision, or ErrNotFound.
func (s *Store[V]) Get(ctx context.Context, key string) (V, uint64, error) { panic("stub") }

// Create writes a key that must not exist, or returns ErrConflict.
func (s *Store[V]) Create(ctx context.Context, key string, v V) (uint64, error) { panic("stub") }

// Update writes a key whose last revision must be rev, or returns ErrConflict.
func (s *Store[V]) Update(ctx context.Context, key string, v V, rev uint64) (uint64, error) {
	panic("stub")
}

// Delete removes a key whose last revision must be rev, or returns ErrConflict.
func (s *Store[V]) Delete(ctx context.Context, key string, rev uint64) error { panic("stub") }

// All calls fn for every key there is, in no order, until fn returns false.
func (s *Store[V]) All(ctx context.Context, fn func(key string, v V, rev uint64) bool) error {
	panic("stub")
}

// A Raw is a stored message as it lies in its stream.
type Raw struct {
	Subject string
	Stream  string
	Seq     uint64
	Time    time.Time
	Header  map[string][]string
	Data    []byte
}

// Tail calls fn, one message at a time and in the order of each stream, with
// every message of failures, decisions, results, notifications and dead
// letters stored since, until ctx is done or fn returns an error.
func (b *Bus) Tail(ctx context.Context, since time.Time, fn func(Raw) error) error { panic("stub") }

// Permanent marks err as one that another attempt cannot cure.
func Permanent(err error) error { panic("stub") }

// IsPermanent reports whether err, or an error it wraps, was marked Permanent.
func IsPermanent(err error) bool { panic("stub") }

// Linear returns a backoff that grows by step with each attempt, up to limit.
func Linear(step, limit time.Duration) func(attempt uint64) time.Duration { panic("stub") }
