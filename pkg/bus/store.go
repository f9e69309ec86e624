package bus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A Store keeps values of one type in a bucket, as JSON, written by
// compare-and-set. It is safe for concurrent use.
type Store[V any] struct {
	b    *Bus
	name string

	mu sync.Mutex         // guards kv
	kv jetstream.KeyValue // nil until the bucket was found
}

// NewStore opens bucket lazily: the server may be away.
func NewStore[V any](b *Bus, bucket Bucket) *Store[V] { return &Store[V]{b: b, name: bucket.Name} }

// Get returns the value and its revision, or ErrNotFound.
func (s *Store[V]) Get(ctx context.Context, key string) (V, uint64, error) {
	var v V
	var entry jetstream.KeyValueEntry
	err := s.do(ctx, "get", key, func(ctx context.Context, kv jetstream.KeyValue) (err error) {
		entry, err = kv.Get(ctx, key)
		return err
	})
	if err != nil {
		return v, 0, err
	}
	if err := json.Unmarshal(entry.Value(), &v); err != nil {
		return v, 0, s.broken(key, err)
	}
	return v, entry.Revision(), nil
}

// Create writes a key that must not exist, or returns ErrConflict.
func (s *Store[V]) Create(ctx context.Context, key string, v V) (uint64, error) {
	return s.write(ctx, "create", key, v, 0)
}

// Update writes a key whose last revision must be rev, or returns ErrConflict.
func (s *Store[V]) Update(ctx context.Context, key string, v V, rev uint64) (uint64, error) {
	return s.write(ctx, "update", key, v, rev)
}

// Delete removes a key whose last revision must be rev, or returns ErrConflict.
func (s *Store[V]) Delete(ctx context.Context, key string, rev uint64) error {
	if rev == 0 { // to the client library: whatever there is
		return fmt.Errorf("bucket %s: delete %q: %w", s.name, heal.Clean(key, 64), ErrConflict)
	}
	return s.do(ctx, "delete", key, func(ctx context.Context, _ jetstream.KeyValue) error {
		m := s.message(key, rev)
		m.Header.Set("KV-Operation", "DEL") // as in ADR-8 of NATS
		_, err := s.b.store(ctx, "KV_"+s.name, m)
		return err
	})
}

// message writes to a key whose last revision must be last.
func (s *Store[V]) message(key string, last uint64) *nats.Msg {
	m := nats.NewMsg("$KV." + s.name + "." + key)
	m.Header.Set(jetstream.ExpectedLastSubjSeqHeader, strconv.FormatUint(last, 10))
	return m
}

// All calls fn for every key there is, in no order, until fn returns false. A
// value that does not decode is passed over, and named by the error at the end.
func (s *Store[V]) All(ctx context.Context, fn func(key string, v V, rev uint64) bool) error {
	var broken []error
	err := s.do(ctx, "list", "", func(ctx context.Context, kv jetstream.KeyValue) error {
		watch, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
		if err != nil {
			return err
		}
		defer func() {
			_ = watch.Stop()
			for range watch.Updates() { // or its sender waits for ever
			}
		}()
		for {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case entry, open := <-watch.Updates():
				if !open {
					return errors.New("the listing broke off")
				}
				if entry == nil {
					return nil // all that there was
				}
				var v V
				if err := json.Unmarshal(entry.Value(), &v); err != nil {
					broken = append(broken, s.broken(entry.Key(), err))
					continue
				}
				if !fn(entry.Key(), v, entry.Revision()) {
					return nil
				}
			}
		}
	})
	return errors.Join(append(broken, err)...)
}

func (s *Store[V]) broken(key string, err error) error {
	return Permanent(fmt.Errorf("bucket %s: value of %q: %w", s.name, heal.Clean(key, 64), err))
}

func (s *Store[V]) write(ctx context.Context, verb, key string, v V, last uint64) (rev uint64, err error) {
	data, err := json.Marshal(v)
	if err != nil {
		return 0, Permanent(fmt.Errorf("bucket %s: %s %q: %w", s.name, verb, heal.Clean(key, 64), err))
	}
	err = s.do(ctx, verb, key, func(ctx context.Context, kv jetstream.KeyValue) error {
		m := s.message(key, last)
		m.Data = data
		rev, err = s.b.store(ctx, "KV_"+s.name, m)
		if verb == "create" && conflicts(err) {
			rev, err = kv.Create(ctx, key, data) // there may be a mark that it was deleted
		}
		return err
	})
	return rev, err
}

var keyForm = regexp.MustCompile(`^[A-Za-z0-9_=-]+(\.[A-Za-z0-9_=-]+)*$`)

// do runs call on the bucket, and says in plain words why it did not work.
func (s *Store[V]) do(ctx context.Context, verb, key string, call func(context.Context, jetstream.KeyValue) error) error {
	what := fmt.Sprintf("bucket %s: %s", s.name, verb)
	if verb != "list" {
		what += fmt.Sprintf(" %q", heal.Clean(key, 64))
		if len(key) > 256 || !keyForm.MatchString(key) {
			return Permanent(fmt.Errorf("%s: not a key; want 1 to 256 letters, digits and _=- in tokens parted by dots", what))
		}
	}
	limit := s.b.pace.answer
	if verb == "list" {
		limit = 0 // as long as its caller likes
	}
	err := s.b.request(ctx, limit, "KV_"+s.name, s.mentioned, func(ctx context.Context) error {
		kv, err := s.bucket(ctx)
		if err != nil {
			return err
		}
		return call(ctx, kv)
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, jetstream.ErrKeyNotFound), errors.Is(err, jetstream.ErrKeyDeleted):
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	case conflicts(err):
		return fmt.Errorf("%s: %w", what, ErrConflict)
	case errors.Is(err, jetstream.ErrBucketNotFound):
		return fmt.Errorf("%s: %w", what, awayError{err})
	}
	return fmt.Errorf("%s: %w", what, err)
}

func conflicts(err error) bool {
	code := codeOf(err)
	return errors.Is(err, jetstream.ErrKeyExists) || errors.Is(err, jetstream.ErrKeyRevisionMismatch) ||
		code == jetstream.JSErrCodeStreamWrongLastSequence || code == jetstream.JSErrCodeStreamWrongLastSequenceConstant // the latter by a replicated stream
}

// mentioned matches the subjects of requests to the bucket.
func (s *Store[V]) mentioned(subject string) bool {
	return mentions("KV_"+s.name)(subject) || strings.HasPrefix(subject, "$KV."+s.name+".")
}

// bucket finds the bucket, once.
func (s *Store[V]) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	s.mu.Lock()
	kv := s.kv
	s.mu.Unlock()
	if kv != nil {
		return kv, nil
	}
	kv, err := s.b.js.KeyValue(ctx, s.name)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.kv = kv
	s.mu.Unlock()
	return kv, nil
}
