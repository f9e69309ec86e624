package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

type permanentError struct{ error }

func (p permanentError) Unwrap() error { return p.error }

// Permanent marks err as one that another attempt cannot cure. Nil stays nil.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return permanentError{err}
}

// IsPermanent reports whether err, or an error it wraps, was marked Permanent.
func IsPermanent(err error) bool {
	var p permanentError
	return errors.As(err, &p)
}

type laterError struct {
	error
	delay time.Duration
}

func (l laterError) Unwrap() error { return l.error }

// Later marks err as waiting on purpose: for a dependency that is away, an
// approval, a budget. The message comes again after delay, however often that
// takes, and the wait does not count as a failure: only the message's own
// deadline ends it. Nil stays nil.
func Later(err error, delay time.Duration) error {
	if err == nil {
		return nil
	}
	return laterError{err, delay}
}

// Delay is what Later said, and whether err, or an error it wraps, is one of its.
func Delay(err error) (time.Duration, bool) {
	var later laterError
	ok := errors.As(err, &later)
	return later.delay, ok
}

// awayError marks an error that the server, not the message, is to blame for.
type awayError struct{ error }

func (a awayError) Unwrap() error { return a.error }

func isAway(err error) bool {
	var a awayError
	return errors.As(err, &a)
}

// away says that there is no connection, and why.
func (b *Bus) away() error {
	b.mu.Lock()
	dialed := b.dialed
	b.mu.Unlock()
	err := cmp.Or(b.nc.LastError(), dialed, nats.ErrNoServers)
	return awayError{fmt.Errorf("not connected to NATS at %s: %w", b.url, err)}
}

// What the server says when a stream refuses a message
// (nats-server server/jetstream_errors_generated.go).
const (
	codeStoreFailed          jetstream.ErrorCode = 10077 // "maximum bytes exceeded" and other refusals of the store
	codeInsufficientResource jetstream.ErrorCode = 10023
	codeStorageExceeded      jetstream.ErrorCode = 10047
)

// explain turns an error of the client library about a stream or bucket, met
// while waiting on ctx, into one that a person can act upon, and marks those
// that waiting may cure.
func (b *Bus) explain(ctx context.Context, stream string, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); errors.Is(cause, ErrPermission) || isAway(cause) {
		return cause
	}
	code := codeOf(err)
	switch {
	case !b.nc.IsConnected(), errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionClosed):
		return b.away()
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, nats.ErrNoResponders), code == jetstream.JSErrCodeStreamNotFound:
		return awayError{fmt.Errorf("no response from stream %s: it does not exist yet, or has no leader: %w", stream, err)}
	case code == codeStoreFailed:
		return awayError{fmt.Errorf("stream %s is full: %w", stream, err)}
	case code == codeInsufficientResource, code == codeStorageExceeded:
		return awayError{fmt.Errorf("stream %s: the server has too little storage: %w", stream, err)}
	case code == jetstream.JSErrCodeJetStreamNotEnabled, code == jetstream.JSErrCodeJetStreamNotEnabledForAccount:
		return awayError{fmt.Errorf("the NATS server at %s runs without JetStream: %w", b.url, err)}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrTimeout):
		return awayError{fmt.Errorf("no answer from stream %s: %w", stream, err)}
	}
	return err
}

// codeOf is the server's own number for err, or 0.
func codeOf(err error) jetstream.ErrorCode {
	var api jetstream.JetStreamError
	if errors.As(err, &api) && api.APIError() != nil {
		return api.APIError().ErrorCode
	}
	return 0
}
