package embed

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/selfheal/selfheal/cli/internal/lock"
	"github.com/selfheal/selfheal/pkg/bus"
)

func started(t *testing.T, o Options) *Server {
	t.Helper()
	s, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func TestStreamsSurviveARestart(t *testing.T) {
	dir := t.TempDir()
	type value struct{ N int }
	store := func(s *Server) *bus.Store[value] {
		b, err := bus.Connect(bus.Options{URL: s.URL(), Service: "analyzer", Cluster: "test"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(b.Close)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if err := b.Provision(ctx); err != nil {
			t.Fatal(err)
		}
		return bus.NewStore[value](b, bus.IncidentsBucket)
	}

	first := started(t, Options{Dir: dir})
	if _, err := store(first).Create(t.Context(), "k", value{7}); err != nil {
		t.Fatal(err)
	}
	first.Stop()

	got, _, err := store(started(t, Options{Dir: dir, Sync: SyncAlways})).Get(t.Context(), "k")
	if err != nil || got.N != 7 {
		t.Errorf("after a restart got %+v, %v; want 7", got, err)
	}
}

func TestOneDirectoryHasOneServer(t *testing.T) {
	dir := t.TempDir()
	first := started(t, Options{Dir: dir})

	_, err := Start(t.Context(), Options{Dir: dir})
	var inUse lock.InUseError
	if !errors.As(err, &inUse) {
		t.Fatalf("a second server on the same directory: %v, want a lock.InUseError", err)
	}
	if want := (lock.InUseError{Dir: dir, PID: os.Getpid()}); inUse != want {
		t.Errorf("got %+v, want %+v", inUse, want)
	}

	first.Stop()
	started(t, Options{Dir: dir}).Stop()
}

func TestItListensOnThisMachineOnly(t *testing.T) {
	s := started(t, Options{Dir: t.TempDir(), MonitorPort: -1})
	for _, at := range []string{s.URL(), s.MonitorURL()} {
		u, err := url.Parse(at)
		if err != nil {
			t.Fatal(err)
		}
		if u.Hostname() != "127.0.0.1" || u.Port() == "0" || u.Port() == "" {
			t.Errorf("listens on %s, want a port of 127.0.0.1", at)
		}
	}
	res, err := http.Get(s.MonitorURL() + "/jsz")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("/jsz answers %s", res.Status)
	}
}

func TestWhatCannotStartSaysWhy(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		o    Options
		want string
	}{
		{"a port that is taken", Options{Dir: t.TempDir(), Port: taken.Addr().(*net.TCPAddr).Port}, "address already in use"},
		{"a file in place of the directory", Options{Dir: file}, "not a directory"},
		{"a file in place of the store", Options{Dir: broken}, "embedded NATS in " + broken},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Start(t.Context(), tt.o)
			if err == nil {
				s.Stop()
				t.Fatal("it started")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want it to say %q", err, tt.want)
			}
			t.Log(err)
		})
	}
}
