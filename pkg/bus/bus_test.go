package bus_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

func TestMain(m *testing.M) { bustest.VerifyTestMain(m) }

// failure is the valid failure of a pod of the given name.
func failure(name string) heal.Failure {
	seen := time.Date(2026, 11, 22, 12, 19, 22, 104e6, time.UTC)
	target := heal.Target{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: name, UID: "uid-" + strings.ReplaceAll(name, ".", "-")}
	return heal.Failure{
		Type: heal.PodFailure, Reason: "CrashLoopBackOff", Severity: heal.Medium,
		ResourceName: name, Namespace: "shop", Description: "container api is in CrashLoopBackOff", Timestamp: heal.Unix{Time: seen},
		Target: target, Detector: "crash_loop", Occurrence: 1, FirstSeen: seen,
		Fingerprint: heal.MakeFingerprint(heal.PodFailure, target, heal.Target{}, "api", "CrashLoopBackOff"),
		EpisodeID:   heal.MakeEpisodeID(bustest.Cluster, target.UID, "crash_loop", "api", seen),
	}
}

// timeout is the test's context, which no wait of the test outlives.
func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// eventually waits until ok, looking again and again.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx := timeout(t)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// consume runs the consumer until stop, which waits for its end.
func consume(t testing.TB, b *bus.Bus, c bus.Consumer, handle func(context.Context, bus.Message[heal.Failure]) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(timeout(t))
	done := make(chan error, 1)
	go func() { done <- bus.Failures.Consume(ctx, b, c, handle) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("consume: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// A logbook keeps log lines, for several goroutines.
type logbook struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logbook) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

func (l *logbook) logger() *slog.Logger { return slog.New(slog.NewJSONHandler(l, nil)) }

func TestConnectRefusesWhatCanNeverWork(t *testing.T) {
	dir := t.TempDir()
	file := func(name, content string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	seed, _ := user.Seed()
	public, _ := user.PublicKey()
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	accountSeed, _ := account.Seed()
	good := file("good", string(seed), 0o400)

	tests := []struct {
		name string
		o    bus.Options
		want string
	}{
		{"no service", bus.Options{Cluster: "test"}, `service: "" is not a name`},
		{"a service that cannot be a token", bus.Options{Cluster: "test", Service: "a.b"}, `service: "a.b" holds '.'`},
		{"no cluster", bus.Options{Service: "x"}, `cluster: "" is not a DNS-1123 name`},
		{"a URL of another scheme", bus.Options{Service: "x", Cluster: "test", URL: "http://nats:4222"}, `nats_url[0]: want nats:// or tls:// and a host, got "http://nats:4222"`},
		{"a bad URL among good ones", bus.Options{Service: "x", Cluster: "test", URL: "nats://a:4222,b"}, `nats_url[1]: want nats://`},
		{"a URL with a password", bus.Options{Service: "x", Cluster: "test", URL: "nats://me:secret@nats:4222"}, "nats_url[0]: must not contain credentials"},
		{"a key file that is not there", bus.Options{Service: "x", Cluster: "test", NKeyFile: dir + "/none"}, `nats_nkey "` + dir + `/none": no such file`},
		{"a key file that all may read", bus.Options{Service: "x", Cluster: "test", NKeyFile: file("open", string(seed), 0o644)}, `/open": mode 0644 is readable by others; want 0400`},
		{"a public key", bus.Options{Service: "x", Cluster: "test", NKeyFile: file("public", public, 0o400)}, `/public": is a public key (U…); need the seed (SU…)`},
		{"an account's seed", bus.Options{Service: "x", Cluster: "test", NKeyFile: file("account", string(accountSeed), 0o400)}, `is the seed of another kind of key (SA…); need a user's seed (SU…)`},
		{"a file of something else", bus.Options{Service: "x", Cluster: "test", NKeyFile: file("junk", "hunter2", 0o400)}, `/junk": is not an nkey`},
		{"a credentials file that is not there", bus.Options{Service: "x", Cluster: "test", CredsFile: dir + "/none"}, `nats_creds "` + dir + `/none": no such file`},
		{"a credentials file without a JWT", bus.Options{Service: "x", Cluster: "test", CredsFile: file("creds", string(seed), 0o400)}, `/creds": holds no user JWT`},
		{"both", bus.Options{Service: "x", Cluster: "test", CredsFile: good, NKeyFile: good}, "give one of them"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, err := bus.Connect(tt.o)
			if err == nil {
				b.Close()
				t.Fatal("connected")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %q\nwant %q in it", err, tt.want)
			}
			if strings.Contains(err.Error(), string(seed)) || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error tells the secret: %q", err)
			}
		})
	}
}

func TestAnNKeyFileProvesWhoWeAre(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	seed, _ := user.Seed()
	path := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(path, append(seed, '\n'), 0o400); err != nil {
		t.Fatal(err)
	}
	s := bustest.Configure(t, server.Options{DontListen: true, Nkeys: []*server.NkeyUser{{Nkey: public}}})
	b := s.Connect(t, bus.Options{NKeyFile: path})
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
}

func TestAServerThatComesLateIsFound(t *testing.T) {
	s := bustest.Listen(t)
	url := s.URL()
	s.Stop()
	var log logbook
	b := s.Connect(t, bus.Options{URL: url, Service: "watcher", Log: log.logger()})
	b.Hurry(time.Minute, time.Minute)
	if err := b.Ready(); err == nil || !strings.Contains(err.Error(), "not connected to NATS at "+url) {
		t.Errorf("Ready: got %v, want it to name %s", err, url)
	}
	err := bus.Failures.Publish(t.Context(), b, failure("early"))
	if err == nil || bus.IsPermanent(err) || !strings.Contains(err.Error(), "not connected") {
		t.Errorf("Publish: got %v, want a transient error that says so", err)
	}
	got := make(chan string, 1)
	stop := consume(t, b, bus.Consumer{Name: "analyzer"}, func(_ context.Context, m bus.Message[heal.Failure]) error {
		got <- m.Data.ResourceName
		return nil
	})
	defer stop()
	ctx := timeout(t)
	provisioned := make(chan error, 1)
	go func() { provisioned <- b.Provision(ctx) }()
	eventually(t, "the consumer waits", func() bool { return log.count("consumer cannot work") == 1 })

	s.Restart(t)
	if err := <-provisioned; err != nil {
		t.Fatal(err)
	}
	if err := bus.Failures.Publish(ctx, b, failure("late")); err != nil {
		t.Fatal(err)
	}
	if name := <-got; name != "late" {
		t.Errorf("got %q: what failed to be published arrived after all", name)
	}
	eventually(t, "the bus is ready", func() bool { return b.Ready() == nil })
	if n := log.count("nats is away"); n != 1 {
		t.Errorf("the server's absence was logged %d times, want once", n)
	}
}

func TestAWrongUserIsNamedLoggedOnceAndTriedAgain(t *testing.T) {
	// Over TCP: a pipe within the process cannot be closed upon while it is written to.
	s := bustest.Configure(t, server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, Username: "me", Password: "right"})
	var log logbook
	b := s.Connect(t, bus.Options{URL: s.URL(), Log: log.logger(), NATS: []nats.Option{nats.UserInfo("me", "wrong")}})
	eventually(t, "the refusal shows", func() bool {
		err := b.Ready()
		return err != nil && strings.Contains(err.Error(), "Authorization Violation")
	})
	for range 2 {
		s.Restart(t)
		eventually(t, "it was refused again", func() bool { return strings.Contains(b.Ready().Error(), "Authorization Violation") })
	}
	if n := log.count("\n"); n > 3 {
		t.Errorf("logged %d lines about one refused user:\n%s", n, log.text.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Provision(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "Authorization Violation") {
		t.Errorf("Provision: got %v, want the end of the context and the refusal", err)
	}
}

// An oldServer says that it is one.
type oldServer struct{ s *bustest.Server }

func (o oldServer) InProcessConn() (net.Conn, error) {
	c, err := o.s.InProcessConn()
	if err != nil {
		return nil, err
	}
	return oldConn{c}, nil
}

type oldConn struct{ net.Conn }

func (c oldConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	copy(p, bytes.ReplaceAll(p[:n], []byte(`"version":"`+server.VERSION), []byte(`"version":"2.13.9`)))
	return n, err
}

func TestAnOldServerIsRefused(t *testing.T) {
	s := bustest.Start(t)
	b := s.Connect(t, bus.Options{URL: nats.DefaultURL, NATS: []nats.Option{nats.InProcessServer(oldServer{s})}})
	err := b.Provision(timeout(t))
	if !bus.IsPermanent(err) || !strings.Contains(err.Error(), "nats-server 2.13.9: need >= 2.14.0") {
		t.Errorf("got %v, want a permanent error that names both versions", err)
	}
	if got := b.Ready(); got == nil || got.Error() != err.Error() {
		t.Errorf("Ready: got %v, want %v", got, err)
	}
}

func TestADeniedSubjectIsNamed(t *testing.T) {
	all := &server.SubjectPermission{Allow: []string{">"}}
	deny := func(subjects ...string) *server.SubjectPermission { return &server.SubjectPermission{Deny: subjects} }
	work := func(ctx context.Context, b *bus.Bus) error {
		return bus.Failures.Consume(ctx, b, bus.Consumer{Name: "analyzer"}, func(context.Context, bus.Message[heal.Failure]) error { return nil })
	}
	publish := func(ctx context.Context, b *bus.Bus) error { return bus.Failures.Publish(ctx, b, failure("a")) }
	create := func(ctx context.Context, b *bus.Bus) error {
		_, err := bus.NewStore[int](b, bus.EpisodesBucket).Create(ctx, "a", 1)
		return err
	}
	tail := func(ctx context.Context, b *bus.Bus) error {
		return b.Tail(ctx, time.Time{}, func(bus.Raw) error { return nil })
	}
	provision := func(ctx context.Context, b *bus.Bus) error { return b.Provision(ctx) }
	tests := []struct {
		name        string
		permissions server.Permissions
		call        func(context.Context, *bus.Bus) error
		want        string
		once        bool // the message of the first time waits for its ack wait to pass
	}{
		{"publish", server.Permissions{Publish: deny("selfheal.v1.*.failures.>")}, publish, `permission denied for publish to "selfheal.v1.test.failures.pod_failure.shop.pod.a" by service "watcher"`, false},
		{"answers", server.Permissions{Publish: all, Subscribe: deny("_INBOX_watcher.>")}, publish, `permission denied for subscription to "_INBOX_watcher.`, false},
		{"find a consumer", server.Permissions{Publish: deny("$JS.API.CONSUMER.INFO.>")}, work, `permission denied for publish to "$JS.API.CONSUMER.INFO.SELFHEAL_FAILURES.analyzer"`, false},
		{"create a consumer", server.Permissions{Publish: deny("$JS.API.CONSUMER.CREATE.>")}, work, `permission denied for publish to "$JS.API.CONSUMER.CREATE.SELFHEAL_FAILURES.analyzer.`, false},
		{"pull", server.Permissions{Publish: deny("$JS.API.CONSUMER.MSG.NEXT.>")}, work, `permission denied for publish to "$JS.API.CONSUMER.MSG.NEXT.SELFHEAL_FAILURES.analyzer"`, false},
		{"acknowledge", server.Permissions{Publish: deny("$JS.ACK.>")}, work, `permission denied for publish to "$JS.ACK.SELFHEAL_FAILURES.analyzer.1.`, true},
		{"look", server.Permissions{Publish: deny("$JS.API.STREAM.INFO.>")}, provision, `permission denied for publish to "$JS.API.STREAM.INFO.SELFHEAL_FAILURES"`, false},
		{"write a bucket", server.Permissions{Publish: deny("$KV.>")}, create, `permission denied for publish to "$KV.SELFHEAL_EPISODES.a"`, false},
		{"tail", server.Permissions{Publish: deny("$JS.API.CONSUMER.CREATE.SELFHEAL_RESULTS.>")}, tail, `permission denied for publish to "$JS.API.CONSUMER.CREATE.SELFHEAL_RESULTS.`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := bustest.Configure(t, server.Options{DontListen: true, NoAuthUser: "admin", Users: []*server.User{
				{Username: "admin", Password: "x"}, {Username: "watcher", Password: "x", Permissions: &tt.permissions},
			}})
			admin := s.Connect(t, bus.Options{Service: "watcher"})
			if err := admin.Provision(timeout(t)); err != nil {
				t.Fatal(err)
			}
			if err := bus.Failures.Publish(t.Context(), admin, failure("first")); err != nil {
				t.Fatal(err)
			}
			b := s.Connect(t, bus.Options{Service: "watcher", NATS: []nats.Option{nats.UserInfo("watcher", "x")}})
			begin := time.Now()
			err := tt.call(timeout(t), b)
			if !errors.Is(err, bus.ErrPermission) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got  %v\nwant %s in it", err, tt.want)
			}
			if !tt.once {
				if again := tt.call(timeout(t), b); !errors.Is(again, bus.ErrPermission) {
					t.Errorf("again: got %v, want %v", again, bus.ErrPermission)
				}
			}
			if took := time.Since(begin); took > 4*time.Second {
				t.Errorf("took %v: the server's refusal was not heard", took)
			}
		})
	}
}

func TestWhoMayNotMakeStreamsWaitsForWhoMay(t *testing.T) {
	s := bustest.Configure(t, server.Options{DontListen: true, NoAuthUser: "admin", Users: []*server.User{
		{Username: "admin", Password: "x"},
		{Username: "watcher", Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{"$JS.API.STREAM.CREATE.>", "$JS.API.STREAM.UPDATE.>"}}}},
	}})
	var log logbook
	b := s.Connect(t, bus.Options{Service: "watcher", Log: log.logger(), NATS: []nats.Option{nats.UserInfo("watcher", "x")}})
	done := make(chan error, 1)
	go func() { done <- b.Provision(timeout(t)) }()
	eventually(t, "it says what it waits for", func() bool {
		err := b.Ready()
		return err != nil && strings.Contains(err.Error(), "stream SELFHEAL_FAILURES is not there, and watcher may not make it; waiting for who may (selfheal provision streams)")
	})
	keeper := s.Connect(t, bus.Options{Service: "keeper", Keeper: true})
	if err := keeper.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := b.Ready(); err != nil {
		t.Errorf("still not ready: %v", err)
	}
	if n := log.count("streams and buckets are not ready"); n != 1 {
		t.Errorf("it was logged %d times", n)
	}
}

func TestTheKeeperMendsWhatAnotherOwns(t *testing.T) {
	s := bustest.Start(t)
	keeper := s.Connect(t, bus.Options{Service: "keeper", Keeper: true})
	if err := keeper.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	js := s.JetStream(t)
	stream, err := js.Stream(t.Context(), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	changed := stream.CachedInfo().Config
	changed.MaxAge = 3 * time.Hour
	if _, err := js.UpdateStream(t.Context(), changed); err != nil {
		t.Fatal(err)
	}
	again := s.Connect(t, bus.Options{Service: "keeper", Keeper: true})
	if err := again.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	if stream, err = js.Stream(t.Context(), bus.Failures.Stream); err != nil || stream.CachedInfo().Config.MaxAge != 7*24*time.Hour {
		t.Errorf("%v, %v", stream.CachedInfo().Config.MaxAge, err)
	}
}

func TestCloseIsFinal(t *testing.T) {
	b := bustest.New(t)
	b.Close()
	if err := b.Ready(); err == nil {
		t.Error("ready after Close")
	}
	err := bus.Failures.Consume(timeout(t), b, bus.Consumer{Name: "x"}, func(context.Context, bus.Message[heal.Failure]) error { return nil })
	if err == nil {
		t.Error("Consume on a closed bus returned no error")
	}
	b.Close()
}
