// Package kube makes clients for the API server; nothing else.
//
// There are two, because they want different things. The one that acts sends
// each write exactly once and gives every call ten seconds: whoever calls
// decides whether to try again, with a fresh look at the cluster. The one that
// watches has no limit of time and a connection of its own, so that a burst of
// writes cannot delay what we see.
package kube

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/kube/reach"
)

// callTimeout is for one call, and for all attempts of a read.
const callTimeout = 10 * time.Second

// Client returns a client for reading and writing with our own limits:
// protobuf, no client-side rate limit, no hidden retries of writes, and a
// timeout per call. Do not watch with it: the timeout would end the watch.
func Client(c *rest.Config) (kubernetes.Interface, error) {
	c = ours(c)
	c.Timeout = callTimeout
	c.Wrap(writeOnce)
	return clientset(c)
}

// WatchClient returns a client for lists and watches, on a connection of its
// own so that a burst of writes cannot delay what we see.
func WatchClient(c *rest.Config) (kubernetes.Interface, error) {
	c = ours(c)
	c.Timeout = 0
	return clientset(c)
}

func clientset(c *rest.Config) (kubernetes.Interface, error) {
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("client for %s: %w", c.Host, err)
	}
	return client, nil
}

// ours is a copy of c with what both clients want.
func ours(c *rest.Config) *rest.Config {
	c = rest.CopyConfig(c)
	c.QPS = -1 // client-go would hold us to 5 requests a second; the server knows better
	c.ContentType = "application/vnd.kubernetes.protobuf"
	c.AcceptContentTypes = c.ContentType + ",application/json" // for what has no protobuf
	if c.Dial == nil {
		// client-go shares one connection among all clients with the same TLS
		// settings, except that a dial function is never the same as another.
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			d := net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
			return d.DialContext(ctx, network, address)
		}
	}
	return c
}

// Config is reach.Config.
func Config(kubeconfig, userAgent string) (*rest.Config, error) {
	return reach.Config(kubeconfig, userAgent)
}

// LogTo is reach.LogTo.
func LogTo(log *slog.Logger) { reach.LogTo(log) }
