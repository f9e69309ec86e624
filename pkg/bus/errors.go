package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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

// explain turns an error of the client library about a stream or bucket into
// one that a person can act upon, and tells those that waiting may cure.
func (b *Bus) explain(ctx context.Context, stream string, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, ErrPermission) {
		return cause
	}
	code := codeOf(err)
	switch {
	case err == nil:
		return nil
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

// denials hands the server's refusals, which arrive apart from the request
// that earned them, to whoever waits for that request.
type denials struct {
	mu      sync.Mutex
	waiting map[*denial]struct{}
}

type denial struct {
	subject func(string) bool // whether a refusal of this subject is ours
	cancel  context.CancelCauseFunc
}

// A refusal is what the server said no to.
type refusal struct {
	subject string
	err     error
}

// denied parses the server's text, `Permissions Violation for Publish to "x"`
// or `… for Subscription to "x"`.
func (b *Bus) denied(err error) refusal {
	verb := "publish"
	if strings.Contains(err.Error(), "Subscription to") {
		verb = "subscription"
	}
	_, subject, _ := strings.Cut(err.Error(), `"`)
	subject, _, _ = strings.Cut(subject, `"`)
	return refusal{subject, fmt.Errorf("%w for %s to %q by service %q", ErrPermission, verb, subject, b.service)}
}

// tell ends everybody's wait that r is about, and reports whether there was any.
func (d *denials) tell(r refusal) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	told := false
	for w := range d.waiting {
		// Without its inbox the client hears no answer at all.
		if w.subject(r.subject) || strings.HasPrefix(r.subject, "_INBOX") {
			w.cancel(r.err)
			told = true
		}
	}
	return told
}

// watch returns a context that ends with ErrPermission as its cause when the
// server refuses a subject that is ours. The caller must call done.
func (d *denials) watch(ctx context.Context, subject func(string) bool) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &denial{subject, cancel}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.waiting == nil {
		d.waiting = map[*denial]struct{}{}
	}
	d.waiting[w] = struct{}{}
	return ctx, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.waiting, w)
		cancel(nil)
	}
}

// exactly, and mentions, are the subjects that a request may be refused for.
func exactly(subject string) func(string) bool {
	return func(s string) bool { return s == subject }
}

// mentions matches the API and acknowledgement subjects about name, which is
// "<stream>" or "<stream>.<consumer>".
func mentions(name string) func(string) bool {
	return func(s string) bool {
		return strings.HasPrefix(s, "$") && strings.Contains(s+".", "."+name+".")
	}
}
