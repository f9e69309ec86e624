package e2e

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

// A fault is what happens to requests between the services and the API
// server. It answers itself, or lets pass.
type fault func(w http.ResponseWriter, r *http.Request, pass http.Handler)

// between starts a proxy to the cluster's API server with a fault in it, and
// returns its kubeconfig. Who asks is the administrator; the user agent is the
// services' own.
func between(t *testing.T, c *kubetest.Cluster, f fault) (kubeconfig string) {
	t.Helper()
	config, err := c.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	target, err := url.Parse(config.Host)
	if err != nil {
		t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport:     transport,
		FlushInterval: -1,                                                                              // watches are streams
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // as if we were not there
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f(w, r, pass) }))
	t.Cleanup(srv.Close)
	kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	err = clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{"proxy": {Server: srv.URL}},
		Contexts:       map[string]*clientcmdapi.Context{"proxy": {Cluster: "proxy"}},
		CurrentContext: "proxy",
	}, kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// dice are random numbers that several requests may ask for at once.
type dice struct {
	mu  sync.Mutex
	rnd *rand.Rand // guarded by mu
}

func newDice(seed uint64) *dice { return &dice{rnd: rand.New(rand.NewPCG(seed, 1))} }

// under reports whether the next number is below the share.
func (d *dice) under(share float64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rnd.Float64() < share
}

func (d *dice) n(most int) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.rnd.IntN(most)
}

// isWrite reports whether a request is a real change by the actuator, neither
// a dry run nor a Kubernetes event.
func isWrite(r *http.Request) bool {
	return r.Method != http.MethodGet && strings.HasPrefix(r.UserAgent(), "selfheal-actuator") && !strings.Contains(r.URL.Path, "/events.k8s.io/") &&
		!strings.Contains(r.URL.Path, "selfsubject")
}

// busy answers that share of all requests that it is too busy (429, without
// the cause of a disruption budget).
func busy(d *dice, share float64) fault {
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if d.under(share) {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "too many requests", http.StatusTooManyRequests)
			return
		}
		pass.ServeHTTP(w, r)
	}
}

// failing answers that share of all requests with a server's error.
func failing(d *dice, share float64) fault {
	codes := []int{http.StatusInternalServerError, http.StatusServiceUnavailable, http.StatusGatewayTimeout}
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if d.under(share) {
			code := codes[d.n(len(codes))]
			http.Error(w, http.StatusText(code), code)
			return
		}
		pass.ServeHTTP(w, r)
	}
}

// dropping carries out what it is asked for, and of that share of the changes
// never says so.
func dropping(d *dice, share float64) fault {
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if isWrite(r) && d.under(share) {
			pass.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler) // closes the connection
		}
		pass.ServeHTTP(w, r)
	}
}

// late carries out that share of the changes long after who asked has given up.
func late(d *dice, share float64, by time.Duration) fault {
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if !isWrite(r) || !d.under(share) {
			pass.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		<-time.After(by) // however soon who asked hangs up
		again := r.WithContext(context.WithoutCancel(r.Context()))
		again.Body = io.NopCloser(bytes.NewReader(body))
		pass.ServeHTTP(httptest.NewRecorder(), again)
		panic(http.ErrAbortHandler)
	}
}

// stale answers the actuator's question for one object for ever as it was when
// it first asked; meanwhile is called before that first answer. So does an API
// server that is behind.
func stale(path func() string, meanwhile func()) fault {
	var once sync.Once
	var old *httptest.ResponseRecorder
	return func(w http.ResponseWriter, r *http.Request, pass http.Handler) {
		if r.Method != http.MethodGet || r.URL.Path != path() || !strings.HasPrefix(r.UserAgent(), "selfheal-actuator") {
			pass.ServeHTTP(w, r)
			return
		}
		once.Do(func() {
			old = httptest.NewRecorder()
			pass.ServeHTTP(old, r)
			meanwhile()
		})
		for key, values := range old.Header() {
			w.Header()[key] = values
		}
		w.WriteHeader(old.Code)
		_, _ = w.Write(old.Body.Bytes()) // who asks notices
	}
}
