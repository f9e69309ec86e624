// Package webhook asks whoever runs the machines beneath nodes to restart or
// replace one, and how far that is.
//
// An order is a POST of JSON with the id of the decision as its
// Idempotency-Key: the same key again must not do the same again. How far it
// is, is asked by GET with the query id=KEY; and whether a machine runs at all
// by GET with node=NAME and provider_id=ID. Each answer is JSON:
//
//	{"state": "accepted|running|succeeded|failed|unknown", "machine": "running|stopped|gone|unknown", "message": "for people"}
//
// Every request carries Selfheal-Signature, "t=SECONDS,v1=HEX": an HMAC-SHA256
// with the shared secret over "SECONDS." and the body, or for a GET the query.
// It goes by https only, but to a loopback host; follows no redirect; uses no
// proxy from the environment; and never connects to a metadata service.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/outbound"
)

// The verbs of an order.
const (
	Restart = "restart"
	Replace = "replace"
)

// The states of an order. One that nobody gave is unknown.
const (
	Accepted  = "accepted"
	Running   = "running"
	Succeeded = "succeeded"
	Failed    = "failed"
	Unknown   = "unknown"
)

// The states of a machine, beside Running and Unknown. Both are proof that
// nothing runs on it any more.
const (
	Stopped = "stopped"
	Gone    = "gone"
)

// An Order is what is asked for.
type Order struct {
	ID         string `json:"id"` // the decision's
	Verb       string `json:"verb"`
	Cluster    string `json:"cluster"`
	Node       string `json:"node"`
	UID        string `json:"uid"`
	ProviderID string `json:"provider_id,omitempty"`
	Reason     string `json:"reason"`
}

// An Answer is what is said to it.
type Answer struct {
	State   string `json:"state"`
	Machine string `json:"machine"`
	Message string `json:"message"`
}

// ErrRefused says that the other side does not take the request as it is:
// another attempt cannot help.
var ErrRefused = errors.New("the provider's webhook refuses it")

// A Client asks one webhook. It is safe for concurrent use.
type Client struct {
	url     *url.URL
	secret  config.Secret
	cluster string
	timeout time.Duration
	round   http.RoundTripper // not a Client: that follows redirects, and puts the URL into its errors
}

const (
	timeout   = 8 * time.Second
	mostBytes = 64 << 10
)

// New returns a client for the webhook, or nil if there is no URL. Nothing is
// asked without a secret: whoever could ask in our name could stop machines.
func New(address, secret config.Secret, cluster string) (*Client, error) {
	if address.Reveal() == "" {
		return nil, nil
	}
	u, err := url.Parse(address.Reveal())
	switch {
	case err != nil, u.Hostname() == "", u.Opaque != "", u.Scheme != "https" && u.Scheme != "http":
		return nil, errors.New("node_webhook_url: want a URL with https:// and a host (it is a secret and not shown)")
	case u.Scheme == "http" && !outbound.Loopback(u.Hostname()):
		return nil, fmt.Errorf("node_webhook_url: want https://, got http:// to %s; http:// is only for a loopback host", heal.Clean(u.Hostname(), 128))
	case len(secret.Reveal()) < outbound.LeastSecret:
		return nil, fmt.Errorf("node_webhook_secret: has %d bytes, want at least %d: whoever guesses it can have machines stopped", len(secret.Reveal()), outbound.LeastSecret)
	}
	return &Client{url: u, secret: secret, cluster: cluster, timeout: timeout, round: outbound.Transport(u.Hostname(), outbound.Anywhere, timeout)}, nil
}

// Give gives an order, which the same order again does not repeat.
func (c *Client) Give(ctx context.Context, o Order) (Answer, error) {
	o.Cluster = c.cluster
	body, err := json.Marshal(o)
	if err != nil {
		return Answer{}, err
	}
	return c.ask(ctx, http.MethodPost, *c.url, body, o.ID)
}

// Ask asks how far an order is; its state is unknown if it was not given.
func (c *Client) Ask(ctx context.Context, id string) (Answer, error) {
	return c.get(ctx, "id", id)
}

// Machine asks whether the machine of a node runs.
func (c *Client) Machine(ctx context.Context, node, providerID string) (Answer, error) {
	return c.get(ctx, "node", node, "provider_id", providerID)
}

func (c *Client) get(ctx context.Context, query ...string) (Answer, error) {
	u := *c.url
	q := u.Query()
	q.Set("cluster", c.cluster)
	for i := 0; i+1 < len(query); i += 2 {
		q.Set(query[i], query[i+1])
	}
	u.RawQuery = q.Encode()
	return c.ask(ctx, http.MethodGet, u, nil, "")
}

func (c *Client) ask(ctx context.Context, method string, u url.URL, body []byte, key string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return Answer{}, errors.New("node_webhook_url: cannot be asked")
	}
	signed := body
	if method == http.MethodGet {
		signed = []byte(u.RawQuery)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", heal.FieldManager)
	req.Header.Set(outbound.SignatureHeader, outbound.Signature(c.secret.Reveal(), time.Now(), signed))
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	if password, ok := c.url.User.Password(); ok {
		req.SetBasicAuth(c.url.User.Username(), password)
	}
	resp, err := c.round.RoundTrip(req)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer within %s", c.timeout)
		}
		// The error names an address at most: it is the transport's, which
		// does not know the URL's path and query.
		return Answer{}, fmt.Errorf("node_webhook_url: %s: %w", c.url.Hostname(), err)
	}
	defer func() { _ = resp.Body.Close() }()
	return c.judge(method, resp)
}

func (c *Client) judge(method string, resp *http.Response) (Answer, error) {
	said := fmt.Errorf("node_webhook_url: %s answered %d %s", c.url.Hostname(), resp.StatusCode, http.StatusText(resp.StatusCode))
	switch code := resp.StatusCode; {
	case code == http.StatusNotFound && method == http.MethodGet:
		return Answer{State: Unknown, Machine: Unknown}, nil
	case code >= 200 && code <= 299:
	case code >= 500, code == http.StatusTooManyRequests, code == http.StatusRequestTimeout, code == http.StatusTooEarly:
		return Answer{}, said
	default:
		return Answer{}, fmt.Errorf("%w: %w", ErrRefused, said)
	}
	var a Answer
	data, err := io.ReadAll(io.LimitReader(resp.Body, mostBytes))
	if err == nil {
		err = json.Unmarshal(data, &a)
	}
	if err != nil {
		return Answer{}, fmt.Errorf("%w, but not with JSON as it should: %w", said, err)
	}
	a.Message = heal.Clean(strings.TrimSpace(a.Message), heal.MaxText)
	if !slices.Contains([]string{Accepted, Running, Succeeded, Failed}, a.State) {
		a.State = Unknown
	}
	if !slices.Contains([]string{Running, Stopped, Gone}, a.Machine) {
		a.Machine = Unknown
	}
	return a, nil
}
