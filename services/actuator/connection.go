package actuator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
)

// A connection knows whether the API server answers, from the requests that
// are made anyway.
type connection struct {
	log *slog.Logger

	mu  sync.Mutex // guards what follows
	err error      // why the last request was not answered; nil if it was
	at  time.Time  // of the last request
}

func newConnection(log *slog.Logger) *connection {
	return &connection{log: log, err: errors.New("the API server was not asked yet")}
}

func (c *connection) check() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func (c *connection) set(err error) {
	c.mu.Lock()
	before := c.err
	c.err, c.at = err, time.Now()
	c.mu.Unlock()
	switch {
	case before == nil && err != nil:
		c.log.Warn("the API server is away, trying again until it answers", "err", err)
	case before != nil && err == nil:
		c.log.Info("the API server answers")
	}
}

// observe wraps a client's transport.
func (c *connection) observe(next http.RoundTripper) http.RoundTripper { return observer{c, next} }

type observer struct {
	c    *connection
	next http.RoundTripper
}

func (o observer) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := o.next.RoundTrip(r)
	switch {
	case r.Context().Err() != nil: // we hung up
	case err != nil:
		o.c.set(err)
	case resp.StatusCode == http.StatusUnauthorized:
		o.c.set(fmt.Errorf("%s: the API server does not accept our credentials", resp.Status))
	default:
		o.c.set(nil)
	}
	return resp, err
}

// WrappedRoundTripper lets client-go find the transport that can cancel a request.
func (o observer) WrappedRoundTripper() http.RoundTripper { return o.next }

// quietFor is how long an answer counts when nothing is asked: a few requests
// an hour are the price of noticing at rest that the API server has gone.
const quietFor = 15 * time.Minute

func (c *connection) doubtful() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err != nil || time.Since(c.at) > quietFor
}

// keep asks the API server for its version while it does not answer, until ctx
// is done.
func (c *connection) keep(ctx context.Context, kube kubernetes.Interface) error {
	const every = 2 * time.Second
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if c.doubtful() {
			_ = kube.Discovery().RESTClient().Get().AbsPath("/version").Do(ctx).Error() // observed on its way
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}
