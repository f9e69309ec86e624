package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/selfheal/selfheal/pkg/kube/kubetest"
)

// The API server is a real one; what is between it and us is not.
func TestMain(m *testing.M) {
	for _, arg := range os.Args {
		if arg == "-test.short" || arg == "-test.short=true" || strings.HasPrefix(arg, "-test.fuzzworker") {
			os.Exit(m.Run())
		}
	}
	os.Exit(kubetest.Main(m, kubetest.Options{Nodes: 1}))
}

// A seen is what a Handler was told: the objects that exist, and how often
// everything was read.
type seen struct {
	mu       sync.Mutex // guards what follows
	objects  map[string]string
	reading  map[string]bool // in the present reading; nil between
	complete int
	resumed  int
	at       string
	failures []error
}

func newSeen() *seen { return &seen{objects: map[string]string{}} }

func (s *seen) locked(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
}

func (s *seen) Begin() { s.locked(func() { s.reading = map[string]bool{} }) }

func (s *seen) Object(o *Object) {
	s.locked(func() {
		s.objects[string(o.Name)] = string(o.Version)
		if s.reading != nil {
			s.reading[string(o.Name)] = true
		}
	})
}

func (s *seen) Deleted(o *Object) {
	s.locked(func() { delete(s.objects, string(o.Name)); delete(s.reading, string(o.Name)) })
}

func (s *seen) Complete() {
	s.locked(func() {
		for name := range s.objects {
			if !s.reading[name] {
				delete(s.objects, name)
			}
		}
		s.reading = nil
		s.complete++
	})
}

func (s *seen) Resumed()          { s.locked(func() { s.resumed++ }) }
func (s *seen) At(version string) { s.locked(func() { s.at = version }) }

func (s *seen) Asked(string) func(error) {
	return func(err error) {
		if err != nil {
			s.Failed("", err)
		}
	}
}
func (s *seen) Failed(_ string, err error) { s.locked(func() { s.failures = append(s.failures, err) }) }
func (s *seen) Heard()                     {}

// A fault is what happens to one request on its way. It may answer itself, or
// forward the request with what is to be done to its answer.
type fault func(w http.ResponseWriter, r *http.Request, forward func(via func(io.Reader, io.Writer) error))

// A proxy stands between a stream and the API server.
type proxy struct {
	*httptest.Server

	mu       sync.Mutex // guards what follows
	fault    fault
	fresh    []time.Time // requests for everything there is
	requests int
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	config, err := kubetest.Get(t).RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	target, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		p.mu.Lock()
		p.requests++
		f := p.fault
		if q.Get("watch") == "" && q.Get("continue") == "" || q.Get("sendInitialEvents") != "" {
			p.fresh = append(p.fresh, time.Now())
		}
		p.mu.Unlock()
		forward := func(via func(io.Reader, io.Writer) error) {
			req := r.Clone(r.Context())
			req.URL.Scheme, req.URL.Host, req.RequestURI = target.Scheme, target.Host, ""
			resp, err := transport.RoundTrip(req)
			if err != nil {
				http.Error(w, err.Error(), http.StatusBadGateway)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
			w.WriteHeader(resp.StatusCode)
			_ = http.NewResponseController(w).Flush()
			_ = via(resp.Body, flushing{w})
		}
		if f == nil {
			f = untouched
		}
		f(w, r, forward)
	}))
	t.Cleanup(p.Close)
	return p
}

type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if err == nil {
		err = http.NewResponseController(f.w).Flush()
	}
	return n, err
}

func (p *proxy) set(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

func (p *proxy) counts() (requests int, fresh []time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests, append([]time.Time{}, p.fresh...)
}

func all(r io.Reader, w io.Writer) error {
	_, err := io.Copy(w, r)
	return err
}

func untouched(_ http.ResponseWriter, _ *http.Request, forward func(func(io.Reader, io.Writer) error)) {
	forward(all)
}

func refuse(w http.ResponseWriter, err *apierrors.StatusError) {
	w.Header().Set("Content-Type", JSON)
	w.WriteHeader(int(err.ErrStatus.Code))
	_ = json.NewEncoder(w).Encode(err.ErrStatus)
}

// frames passes on the events of a watch that keep returns true for, until it
// returns an error.
func frames(keep func(kind string, data []byte) (bool, error)) func(io.Reader, io.Writer) error {
	return func(r io.Reader, w io.Writer) error {
		for {
			var head [4]byte
			if _, err := io.ReadFull(r, head[:]); err != nil {
				return err
			}
			data := make([]byte, binary.BigEndian.Uint32(head[:]))
			if _, err := io.ReadFull(r, data); err != nil {
				return err
			}
			kind := string(field(data, 1))
			pass, err := keep(kind, append(head[:], data...))
			if err != nil {
				return err
			}
			if pass {
				if _, err := w.Write(append(head[:], data...)); err != nil {
					return err
				}
			}
		}
	}
}

func isWatch(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }
func isFresh(r *http.Request) bool { return r.URL.Query().Get("sendInitialEvents") != "" }

// A rig is a stream of the ConfigMaps of a namespace, through a proxy.
type rig struct {
	t     *testing.T
	kube  kubernetes.Interface
	ns    string
	proxy *proxy
	seen  *seen
	n     int
}

func newRig(t *testing.T) *rig {
	t.Helper()
	if testing.Short() {
		t.Skip("needs a control plane")
	}
	t.Parallel()
	c := kubetest.Get(t)
	return &rig{t: t, kube: c.Client(t), ns: c.Namespace(t), proxy: newProxy(t), seen: newSeen()}
}

// quick lets tests wait less than operators do.
var quick = limits{fresh: 300 * time.Millisecond, silence: 3 * time.Second, firstSilence: time.Second}

// run follows until the test ends, or stop is called.
func (r *rig) run(l limits, accept, from string) (s *Stream, stop func()) {
	r.t.Helper()
	u, err := url.Parse(r.proxy.URL + "/api/v1/namespaces/" + r.ns + "/configmaps")
	if err != nil {
		r.t.Fatal(err)
	}
	s = New(Config{Client: r.proxy.Client(), URL: u, Accept: accept, From: from, Handler: r.seen, Observer: r.seen, Fields: "metadata.name!=kube-root-ca.crt"})
	s.limits = l
	ctx, cancel := context.WithCancel(r.t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	r.t.Cleanup(stop)
	return s, stop
}

// change creates an object, changes another, and deletes a third.
func (r *rig) change() {
	r.t.Helper()
	maps := r.kube.CoreV1().ConfigMaps(r.ns)
	r.n++
	_, err := maps.Create(r.t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("m", r.n)}, Data: map[string]string{"x": strings.Repeat("x", r.n)}}, metav1.CreateOptions{})
	if err == nil && r.n > 3 {
		_, err = maps.Patch(r.t.Context(), fmt.Sprint("m", r.n-1), types.MergePatchType, fmt.Appendf(nil, `{"data":{"y":"%d"}}`, r.n), metav1.PatchOptions{})
		if err == nil && r.n%2 == 0 {
			err = maps.Delete(r.t.Context(), fmt.Sprint("m", r.n-3), metav1.DeleteOptions{})
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// agrees waits until what was seen is what exists.
func (r *rig) agrees() {
	r.t.Helper()
	kubetest.Eventually(r.t, 40*time.Second, func(ctx context.Context) error {
		list, err := r.kube.CoreV1().ConfigMaps(r.ns).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name!=kube-root-ca.crt"})
		if err != nil {
			return err
		}
		want := map[string]string{}
		for _, m := range list.Items {
			want[m.Name] = m.ResourceVersion
		}
		r.seen.mu.Lock()
		defer r.seen.mu.Unlock()
		if r.seen.complete == 0 && r.seen.resumed == 0 {
			return errors.New("nothing was read to the end")
		}
		if diff := cmp.Diff(want, r.seen.objects); diff != "" {
			return fmt.Errorf("what was seen is not what exists (-want +got):\n%s", diff)
		}
		return nil
	})
}

func TestNothingIsMissedWhateverHappensToTheStreams(t *testing.T) {
	aborted := errors.New("aborted")
	tests := map[string]struct {
		accept string
		limits limits
		lists  bool // too
		fault  fault
	}{
		"nothing":         {fault: untouched},
		"nothing in JSON": {accept: JSON, fault: untouched},
		"closed every second": {fault: func(_ http.ResponseWriter, _ *http.Request, forward func(func(io.Reader, io.Writer) error)) {
			forward(func(r io.Reader, w io.Writer) error {
				end := time.Now().Add(time.Second)
				return frames(func(string, []byte) (bool, error) {
					if time.Now().After(end) {
						return false, aborted
					}
					return true, nil
				})(r, w)
			})
		}},
		"cut in the middle of an event": {fault: func(_ http.ResponseWriter, r *http.Request, forward func(func(io.Reader, io.Writer) error)) {
			if isFresh(r) {
				forward(all)
				return
			}
			forward(func(r io.Reader, w io.Writer) error {
				_, err := io.CopyN(w, r, 100+rand.Int64N(2000))
				return err
			})
		}},
		"also while everything is read": {fault: func(_ http.ResponseWriter, _ *http.Request, forward func(func(io.Reader, io.Writer) error)) {
			forward(func(body io.Reader, w io.Writer) error {
				_, err := io.CopyN(w, body, 50+rand.Int64N(1000))
				return err
			})
		}},
		"every resumed watch has expired": {fault: func(w http.ResponseWriter, r *http.Request, forward func(func(io.Reader, io.Writer) error)) {
			if isWatch(r) && !isFresh(r) {
				refuse(w, apierrors.NewResourceExpired("too old resource version"))
				return
			}
			forward(func(body io.Reader, w io.Writer) error {
				n := 0
				return frames(func(kind string, _ []byte) (bool, error) {
					if n++; n > 12 && kind != bookmark {
						return false, aborted
					}
					return true, nil
				})(body, w)
			})
		}},
		"expiry is told within the stream": {fault: func(_ http.ResponseWriter, _ *http.Request, forward func(func(io.Reader, io.Writer) error)) {
			forward(func(body io.Reader, w io.Writer) error {
				n := 0
				return frames(func(kind string, _ []byte) (bool, error) {
					if n++; n > 12 && kind != bookmark {
						expired := apierrors.NewResourceExpired("too old resource version").ErrStatus
						_, err := w.Write(frame(t, failure, envelope(t, "v1", "Status", &expired)))
						return false, errors.Join(err, aborted)
					}
					return true, nil
				})(body, w)
			})
		}},
		"no bookmarks": {fault: func(_ http.ResponseWriter, _ *http.Request, forward func(func(io.Reader, io.Writer) error)) {
			forward(frames(func(kind string, _ []byte) (bool, error) { return kind != bookmark, nil }))
		}},
		"a server that cannot begin with what exists": {fault: func(w http.ResponseWriter, r *http.Request, forward func(func(io.Reader, io.Writer) error)) {
			if isFresh(r) {
				refuse(w, apierrors.NewBadRequest("sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"))
				return
			}
			forward(all)
		}},
		"streams that fall silent": {limits: limits{fresh: 300 * time.Millisecond, silence: 500 * time.Millisecond, firstSilence: time.Second}, fault: func(_ http.ResponseWriter, _ *http.Request, forward func(func(io.Reader, io.Writer) error)) {
			forward(func(body io.Reader, w io.Writer) error {
				n := 0
				return frames(func(string, []byte) (bool, error) { n++; return n < 10, nil })(body, w)
			})
		}},
		"a server that shows the past": {fault: func(_ http.ResponseWriter, _ *http.Request, forward func(func(io.Reader, io.Writer) error)) {
			var first []byte
			n := 0
			forward(func(body io.Reader, w io.Writer) error {
				return frames(func(kind string, data []byte) (bool, error) {
					if first == nil && kind == added {
						first = data
					}
					if n++; n%10 == 0 && first != nil {
						_, err := w.Write(first)
						return true, err
					}
					return true, nil
				})(body, w)
			})
		}},
		"a server that is overloaded": {lists: true, fault: func(w http.ResponseWriter, r *http.Request, forward func(func(io.Reader, io.Writer) error)) {
			switch rand.IntN(4) {
			case 0:
				refuse(w, apierrors.NewTooManyRequests("wait", 0))
			case 1:
				refuse(w, apierrors.NewInternalError(errors.New("etcdserver: request timed out")))
			case 2:
				http.Error(w, "not now", http.StatusServiceUnavailable)
			default:
				if !isWatch(r) {
					forward(all)
					return
				}
				end := time.Now().Add(300 * time.Millisecond)
				forward(frames(func(string, []byte) (bool, error) { return true, errWhen(time.Now().After(end), aborted) }))
			}
		}},
		"garbage": {fault: func(_ http.ResponseWriter, _ *http.Request, forward func(func(io.Reader, io.Writer) error)) {
			forward(func(body io.Reader, w io.Writer) error {
				n := 0
				return frames(func(_ string, data []byte) (bool, error) {
					if n++; n%15 == 0 {
						_, err := w.Write(bytes.Repeat([]byte{0xff}, 64))
						return false, errors.Join(err, aborted)
					}
					return true, nil
				})(body, w)
			})
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			accept, l := Protobuf+","+JSON, quick
			if tt.accept != "" {
				accept = tt.accept
			}
			if tt.limits != (limits{}) {
				l = tt.limits
			}
			for range 20 {
				r.change()
			}
			r.proxy.set(func(w http.ResponseWriter, req *http.Request, forward func(func(io.Reader, io.Writer) error)) {
				if !isWatch(req) && !tt.lists {
					forward(all)
					return
				}
				tt.fault(w, req, forward)
			})
			r.run(l, accept, "")
			for range 5 {
				for range 10 {
					r.change()
				}
				r.agrees()
			}
			requests, fresh := r.proxy.counts()
			for i := 1; i < len(fresh); i++ {
				if apart := fresh[i].Sub(fresh[i-1]); apart < l.fresh*9/10 && name != "a server that is overloaded" && name != "a server that cannot begin with what exists" {
					t.Errorf("everything was asked for twice within %s, want %s apart", apart, l.fresh)
				}
			}
			t.Logf("%d requests, %d of them for everything", requests, len(fresh))
		})
	}
}

func errWhen(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

func TestStreamGoesOnWhereAnotherEndedWithoutReadingEverything(t *testing.T) {
	r := newRig(t)
	for range 20 {
		r.change()
	}
	s, stop := r.run(quick, Protobuf, "")
	r.agrees()
	stop()
	for range 10 {
		r.change()
	}
	_, before := r.proxy.counts()
	r.run(quick, Protobuf, s.Version())
	r.agrees()
	if _, after := r.proxy.counts(); len(after) != len(before) || r.seen.resumed != 1 || r.seen.complete != 1 {
		t.Errorf("everything was read %d times, resumed %d times; want one of each", r.seen.complete, r.seen.resumed)
	}
}

func TestRefreshReadsEverythingAnew(t *testing.T) {
	r := newRig(t)
	r.change()
	s, _ := r.run(quick, Protobuf, "")
	r.agrees()
	s.Refresh()
	kubetest.Eventually(t, 20*time.Second, func(context.Context) error {
		r.seen.mu.Lock()
		defer r.seen.mu.Unlock()
		if r.seen.complete < 2 {
			return fmt.Errorf("everything was read %d times, want twice", r.seen.complete)
		}
		return nil
	})
	r.change()
	r.agrees()
	if len(r.seen.failures) > 0 {
		t.Errorf("failures %v, want none: it was asked for", r.seen.failures)
	}
}

// TestServerThatForgetsEverythingIsNotFlooded is the one that does not hurry.
func TestServerThatForgetsEverythingIsNotFlooded(t *testing.T) {
	r := newRig(t)
	r.change()
	r.proxy.set(func(w http.ResponseWriter, req *http.Request, forward func(func(io.Reader, io.Writer) error)) {
		if isWatch(req) && !isFresh(req) {
			refuse(w, apierrors.NewResourceExpired("too old resource version"))
			return
		}
		forward(func(body io.Reader, w io.Writer) error {
			return frames(func(kind string, data []byte) (bool, error) {
				end := kind == bookmark
				if end {
					_, err := w.Write(data)
					return false, errors.Join(err, io.EOF)
				}
				return true, nil
			})(body, w)
		})
	})
	r.run(usual, Protobuf, "")
	kubetest.Eventually(t, time.Minute, func(context.Context) error {
		if _, fresh := r.proxy.counts(); len(fresh) < 4 {
			return fmt.Errorf("everything was asked for %d times", len(fresh))
		}
		return nil
	})
	_, fresh := r.proxy.counts()
	for i := 1; i < len(fresh); i++ {
		if apart := fresh[i].Sub(fresh[i-1]); apart < 10*time.Second-50*time.Millisecond {
			t.Errorf("everything was asked for twice within %s, want at most once in 10 s", apart)
		}
	}
}
