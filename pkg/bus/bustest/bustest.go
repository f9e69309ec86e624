// Package bustest runs a real JetStream server inside the test process, and
// gives tests the same bus that the services have.
package bustest

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

// VerifyTestMain runs a package's tests and fails if goroutines outlive them.
// It knows the one that the server itself leaves behind when it stops while it
// sets up the source of a stream.
func VerifyTestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.(*stream).trySetupSourceConsumer.func3"))
}

// Cluster is the cluster of every bus that this package gives out.
const Cluster = "test"

// New starts a server of the test's own and returns a provisioned bus, as the
// given service or else as "test". Both end with the test.
func New(t testing.TB, service ...string) *bus.Bus {
	t.Helper()
	name := "test"
	if len(service) > 0 {
		name = service[0]
	}
	return Start(t).Bus(t, name)
}

// A Server is a NATS server with JetStream on disk, in this process.
type Server struct {
	opts server.Options

	mu     sync.Mutex     // guards all below
	srv    *server.Server // nil while it is stopped
	client *nats.Conn     // of the test itself; nil until it is needed
}

// Start runs a server without a port: only buses of this process reach it.
func Start(t testing.TB) *Server {
	t.Helper()
	return start(t, server.Options{DontListen: true})
}

// Listen runs a server on a free port of the loopback interface.
func Listen(t testing.TB) *Server {
	t.Helper()
	return start(t, server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT})
}

// Configure runs a server with options of the test's choice, such as users
// and their permissions.
func Configure(t testing.TB, opts server.Options) *Server {
	t.Helper()
	return start(t, opts)
}

func start(t testing.TB, opts server.Options) *Server {
	t.Helper()
	opts.JetStream = true
	opts.StoreDir = t.TempDir()
	opts.JetStreamMaxStore = 1 << 40 // the streams reserve some gigabytes, and use none of them
	opts.NoSigs = true
	opts.NoLog = true
	s := &Server{opts: opts}
	s.Restart(t)
	t.Cleanup(func() {
		if s.client != nil {
			s.client.Close()
		}
		s.Stop()
	})
	return s
}

// Restart stops the server if it runs, and starts it with the same store, and
// on the same port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop()
	opts := s.opts
	srv, err := server.NewServer(&opts)
	if err != nil {
		t.Fatalf("nats server: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats server did not become ready")
	}
	if addr, ok := srv.Addr().(*net.TCPAddr); ok {
		s.opts.Port = addr.Port
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.srv = srv
}

// Stop stops the server, and keeps its store.
func (s *Server) Stop() {
	s.mu.Lock()
	srv := s.srv
	s.srv = nil
	s.mu.Unlock()
	if srv != nil {
		srv.Shutdown()
		srv.WaitForShutdown()
	}
}

// URL is where a server that listens does so.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.srv == nil {
		return ""
	}
	return s.srv.ClientURL()
}

// InProcessConn connects to the server as it is now, also after a Restart.
func (s *Server) InProcessConn() (net.Conn, error) {
	s.mu.Lock()
	srv := s.srv
	s.mu.Unlock()
	if srv == nil {
		return nil, errors.New("the server is stopped")
	}
	return srv.InProcessConn()
}

// Bus returns a provisioned bus of the given service. It ends with the test.
func (s *Server) Bus(t testing.TB, service string) *bus.Bus {
	t.Helper()
	b := s.Connect(t, bus.Options{Service: service})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := b.Provision(ctx); err != nil {
		t.Fatalf("provision: %v", err)
	}
	return b
}

// Connect returns a bus with options of the test's choice, not provisioned.
// Without a URL it connects within the process.
func (s *Server) Connect(t testing.TB, o bus.Options) *bus.Bus {
	t.Helper()
	if o.Cluster == "" {
		o.Cluster = Cluster
	}
	if o.Service == "" {
		o.Service = "test"
	}
	if o.URL == "" {
		o.NATS = append([]nats.Option{nats.InProcessServer(s)}, o.NATS...)
	}
	o.NATS = append(quick(), o.NATS...)
	b, err := bus.Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// JetStream is a plain client's view of the server.
func (s *Server) JetStream(t testing.TB) jetstream.JetStream {
	t.Helper()
	s.mu.Lock()
	nc := s.client
	s.mu.Unlock()
	if nc == nil {
		var err error
		if nc, err = nats.Connect("", append(quick(), nats.InProcessServer(s), nats.MaxReconnects(-1))...); err != nil {
			t.Fatal(err)
		}
		s.mu.Lock()
		s.client = nc
		s.mu.Unlock()
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// quick makes a client come back soon after a Restart.
func quick() []nats.Option {
	return []nats.Option{nats.ReconnectWait(10 * time.Millisecond), nats.ReconnectJitter(0, 0)}
}

// PublishRaw stores a message exactly as given, which no bus would publish.
func (s *Server) PublishRaw(t testing.TB, subject string, header map[string][]string, data []byte) {
	t.Helper()
	js := s.JetStream(t)
	if _, err := js.PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: header, Data: data}); err != nil {
		t.Fatalf("publish to %s: %v", subject, err)
	}
}

// DeadLetters returns what lies in the dead-letter stream, oldest first.
func (s *Server) DeadLetters(t testing.TB) []heal.DeadLetter {
	t.Helper()
	js := s.JetStream(t)
	stream, err := js.Stream(t.Context(), bus.DeadLetters.Stream)
	if err != nil {
		t.Fatal(err)
	}
	var letters []heal.DeadLetter
	state := stream.CachedInfo().State
	for seq := max(1, state.FirstSeq); seq <= state.LastSeq; seq++ {
		msg, err := stream.GetMsg(t.Context(), seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		event, err := heal.Decode[heal.DeadLetter](msg.Data)
		if err != nil {
			t.Fatalf("dead letter %d: %v", seq, err)
		}
		letters = append(letters, event.Data)
	}
	return letters
}
