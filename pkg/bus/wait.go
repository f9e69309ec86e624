package bus

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"
)

// waits are what is being waited for on the connection. Two pieces of news
// arrive apart from the requests that they are about: that the server refused a
// subject, and that the connection is lost, and with it every answer to come.
type waits struct {
	mu   sync.Mutex // guards all below
	all  map[*wait]struct{}
	deaf error // our inbox was refused: no answer reaches us on this connection
}

type wait struct {
	ours    func(subject string) bool // whether a refusal of subject is about us
	request bool                      // the connection's loss is the wait's end
	cancel  context.CancelCauseFunc
}

// add returns a context that ends with the news as its cause. The caller must
// call done.
func (w *waits) add(ctx context.Context, ours func(string) bool, request bool) (_ context.Context, done func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	one := &wait{ours, request, cancel}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.deaf != nil {
		cancel(w.deaf)
	}
	if w.all == nil {
		w.all = map[*wait]struct{}{}
	}
	w.all[one] = struct{}{}
	return ctx, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.all, one)
		cancel(nil)
	}
}

// refused ends the waits that a refusal is about, and reports whether there
// were any.
func (w *waits) refused(subject string, err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if strings.HasPrefix(subject, "_INBOX") {
		w.deaf = err // told once, when the client subscribes
	}
	told := false
	for one := range w.all {
		if w.deaf != nil || one.ours(subject) {
			one.cancel(err)
			told = true
		}
	}
	return told
}

// connected forgets what was refused on the connection before.
func (w *waits) connected() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deaf = nil
}

// lost ends the waits for answers that will not come.
func (w *waits) lost(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for one := range w.all {
		if one.request {
			one.cancel(err)
		}
	}
}

// refusal parses the server's text, `Permissions Violation for Publish to "x"`
// or `… for Subscription to "x"`.
func (b *Bus) refusal(err error) (subject string, _ error) {
	verb := "publish"
	if strings.Contains(err.Error(), "Subscription to") {
		verb = "subscription"
	}
	_, subject, _ = strings.Cut(err.Error(), `"`)
	subject, _, _ = strings.Cut(subject, `"`)
	return subject, fmt.Errorf("%w for %s to %q by service %q", ErrPermission, verb, subject, b.service)
}

// request runs call, which asks the server for something about a stream on
// subjects that are ours, and explains what went wrong. A limit of 0 is none.
func (b *Bus) request(ctx context.Context, limit time.Duration, stream string, ours func(string) bool, call func(context.Context) error) error {
	if !b.nc.IsConnected() {
		return b.away()
	}
	waiting, done := b.waits.add(ctx, ours, true)
	defer done()
	if limit > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(waiting, limit)
		defer cancel()
	}
	err := call(waiting)
	if err != nil && ctx.Err() != nil && !errors.Is(context.Cause(waiting), ErrPermission) {
		return context.Cause(ctx) // the caller's time was up, not ours
	}
	return b.explain(waiting, stream, err)
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
