// Package natstest runs a real NATS server with the chart's accounts, and gives
// tests the keys to it: those of each service, the operator and the administrator.
package natstest

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/test/chart/rights"
)

// A Stage is a NATS server with the chart's accounts, and the keys to it.
type Stage struct {
	*bustest.Server
	Cluster string
	Seeds   map[string]string // client to the file of its seed
}

// Start runs a server for a cluster until the test ends, with its streams, of a
// chart in which nobody may answer by the buttons of messages. It sets
// environment variables, so the test cannot be parallel.
func Start(t *testing.T, cluster string) Stage { return start(t, cluster, false) }

// StartWithButtons is Start of a chart in which people may answer by buttons.
func StartWithButtons(t *testing.T, cluster string) Stage { return start(t, cluster, true) }

func start(t *testing.T, cluster string, buttons bool) Stage {
	t.Helper()
	s := Stage{Cluster: cluster, Seeds: Keys(t, rights.Names()...)}
	file := filepath.Join(t.TempDir(), "nats.conf")
	conf := "system_account: SYS\n" + rights.Fill(cluster, buttons)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	opts, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opts.Host, opts.Port = "127.0.0.1", server.RANDOM_PORT
	s.Server = bustest.Configure(t, *opts)
	s.Provisioned(t, rights.Keeper, bus.Options{Keeper: true})
	return s
}

// Keys makes users, tells the next configuration that is read of their public
// keys, and returns the files of their seeds.
func Keys(t *testing.T, names ...string) map[string]string {
	t.Helper()
	dir, seeds := t.TempDir(), map[string]string{}
	for _, name := range names {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		public, err := pair.PublicKey()
		if err != nil {
			t.Fatal(err)
		}
		seed, err := pair.Seed()
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv(strings.ToUpper(name)+"_NKEY", public)
		seeds[name] = filepath.Join(dir, name)
		if err := os.WriteFile(seeds[name], seed, 0o400); err != nil {
			t.Fatal(err)
		}
	}
	return seeds
}

// Bus is what the service itself would use, with further options of the test's.
func (s Stage) Bus(t *testing.T, client string, o bus.Options) *bus.Bus {
	t.Helper()
	o.URL, o.Service, o.Cluster, o.NKeyFile = s.URL(), inbox(client), s.Cluster, s.Seeds[client]
	return s.Connect(t, o)
}

// Provisioned is Bus with all streams in place.
func (s Stage) Provisioned(t *testing.T, client string, o bus.Options) *bus.Bus {
	t.Helper()
	b := s.Bus(t, client, o)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := b.Provision(ctx); err != nil {
		t.Fatalf("%s: provision: %v", client, err)
	}
	if err := b.Ready(); err != nil {
		t.Fatalf("%s: %v", client, err)
	}
	return b
}

// Plain is a client with the service's key that does as it likes. What the
// server refuses goes to the channel.
func (s Stage) Plain(t *testing.T, client string) (*nats.Conn, jetstream.JetStream, <-chan error) {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(s.Seeds[client])
	if err != nil {
		t.Fatal(err)
	}
	refused := make(chan error, 64)
	nc, err := nats.Connect(s.URL(), key, nats.CustomInboxPrefix("_INBOX_"+inbox(client)), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		select {
		case refused <- err:
		default: // nobody looks at so many
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithDefaultTimeout(2*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	return nc, js, refused
}

// inbox is the client's name as the bus knows it.
func inbox(client string) string {
	for _, c := range rights.Clients() {
		if c.Name == client {
			return c.Inbox
		}
	}
	return client
}
