package watch

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"

	"github.com/selfheal/selfheal/services/watcher/internal/stream"
)

// A server is the API server, as the watcher asks it: without the typed
// clients, which would bring every type there is into memory.
type server struct {
	client *http.Client
	base   *url.URL
}

// connect uses a connection of its own, so that nobody else's requests delay
// what we see.
func connect(c *rest.Config) (server, error) {
	c = rest.CopyConfig(c)
	c.Timeout = 0 // it would end streams
	if c.Dial == nil {
		// Clients with the same TLS settings share one connection, except that
		// a dial function is never the same as another.
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			d := net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}
			return d.DialContext(ctx, network, address)
		}
	}
	c.WrapTransport = transport.Wrappers(narrow, c.WrapTransport)
	client, err := rest.HTTPClientFor(c)
	if err != nil {
		return server{}, fmt.Errorf("client for %s: %w", c.Host, err)
	}
	base, _, err := rest.DefaultServerUrlFor(c)
	if err != nil {
		return server{}, fmt.Errorf("client for %s: %w", c.Host, err)
	}
	return server{client, base}, nil
}

// maxReceived is how much of one stream may lie here unread. Go's own 4 MiB,
// for each of two dozen streams, would be most of our memory at the start.
const maxReceived = 512 << 10

// narrow has a connection take no more of a stream than that at once.
func narrow(rt http.RoundTripper) http.RoundTripper {
	for inner := rt; ; {
		switch t := inner.(type) {
		case *http.Transport: // ours alone, for its dial function is
			t.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: maxReceived}
			return rt
		case utilnet.RoundTripperWrapper:
			inner = t.WrappedRoundTripper()
		default:
			return rt
		}
	}
}

// url is where the API serves a kind, or one object of it. Names come from the
// API server itself, or were checked: none has a slash.
func (s server) url(k kind, namespace, name string) *url.URL {
	path := []string{"apis", k.Version}
	if k.Group == "" {
		path[0] = "api"
	}
	if namespace != "" {
		path = append(path, "namespaces", url.PathEscape(namespace))
	}
	path = append(path, k.Resource)
	if name != "" {
		path = append(path, url.PathEscape(name))
	}
	return s.base.JoinPath(path...)
}

// get reads one object into obj.
func (s server) get(ctx context.Context, k kind, n name, obj object) error {
	return stream.GetObject(ctx, s.client, s.url(k, n.Namespace, n.Name), k.accept(), obj)
}

// metadata reads nothing but the metadata of one object.
func (s server) metadata(ctx context.Context, k kind, n name) (metav1.Object, error) {
	const form = ";as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	obj := new(metav1.PartialObjectMetadata)
	return obj, stream.GetObject(ctx, s.client, s.url(k, n.Namespace, n.Name), stream.Protobuf+form+","+stream.JSON+form, obj)
}

// list hands over everything there is of a kind with these fields; of all
// namespaces if none is named.
func (s server) list(ctx context.Context, k kind, namespace string, selector fields.Selector, do func(*stream.Object) error) error {
	query := url.Values{}
	if !selector.Empty() {
		query.Set("resourceVersion", "0") // from the API server's cache, which has an index
		query.Set("fieldSelector", selector.String())
	}
	return stream.List(ctx, s.client, s.url(k, namespace, ""), query, k.accept(), do)
}
