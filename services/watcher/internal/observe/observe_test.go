package observe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/sight"
	"github.com/selfheal/selfheal/pkg/sight/sighttest"
	"github.com/selfheal/selfheal/services/watcher/internal/doubt"
)

func TestMain(m *testing.M) { bustest.VerifyTestMain(m) }

// world is what an observer under test sees. It is safe for concurrent use.
type world struct {
	mu     sync.Mutex
	pods   doubt.Kind
	nodes  []doubt.Node
	again  []string
	leases func() (all, stale int, err error)
	log    bytes.Buffer
}

func newWorld() *world {
	return &world{
		pods:   doubt.Kind{Resource: "pods", Synced: true, Count: 100, Resyncs: 1},
		leases: func() (int, int, error) { return 0, 0, errors.New("forbidden") },
	}
}

func (w *world) change(f func(w *world)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(w)
}

func (w *world) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *world) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

func (w *world) config(b *bus.Bus) Config {
	return Config{
		Bus: b, Log: slog.New(slog.NewJSONHandler(w, nil)), Every: 5 * time.Millisecond, Beat: 50 * time.Millisecond,
		Kinds:  func() []doubt.Kind { w.mu.Lock(); defer w.mu.Unlock(); return []doubt.Kind{w.pods} },
		Nodes:  func() []doubt.Node { w.mu.Lock(); defer w.mu.Unlock(); return w.nodes },
		Again:  func(r string) { w.mu.Lock(); defer w.mu.Unlock(); w.again = append(w.again, r) },
		Leases: func(context.Context) (int, int, error) { w.mu.Lock(); defer w.mu.Unlock(); return w.leases() },
	}
}

func run(t *testing.T, cfg Config) (o *Observer, stop func()) {
	t.Helper()
	o = New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); o.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(stop)
	return o, stop
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("still: %v", err)
		case <-tick.C:
		}
	}
}

// settles waits until whoever acts knows that the watcher has only just begun.
func settles(t *testing.T, v *sight.View) {
	t.Helper()
	sighttest.Until(t, 20*time.Second, v, "settling", func(s heal.Sight) bool { return !s.Clear && s.Reason == heal.ReasonSettling })
}

func TestAWatcherSaysHowItSees(t *testing.T) {
	srv := bustest.Start(t)
	v := sighttest.Start(t, srv.Bus(t, "analyzer"))
	w := newWorld()
	cfg := w.config(srv.Bus(t, "watcher"))
	cfg.Settle = time.Hour
	o, stop := run(t, cfg)
	<-o.Begun()
	settles(t, v)
	stop()

	// Its successor goes on where it ended, and does not settle.
	o, stop = run(t, cfg)
	<-o.Begun()
	clear := heal.Sight{Clear: true, Detail: "1 of 2 watchers see clearly"} // the first one's word still counts
	sighttest.Is(t, v, clear)

	w.change(func(w *world) { w.nodes = []doubt.Node{{UID: "a"}, {UID: "b"}} })
	sighttest.Is(t, v, heal.Sight{Reason: heal.ReasonBlind, Detail: "2 of 2 nodes are not ready at once"})
	if got := o.State(); got.State != heal.ObserverBlind {
		t.Errorf("state %s, want blind", got.State)
	}
	for _, want := range []string{
		`"msg":"this watcher sees the cluster clearly"`,
		`"msg":"this watcher doubts what it sees: nothing destructive is done on its word"`,
		`"nodes":"2 of 2 nodes are not ready at once"`,
		`"msg":"the leases of nodes cannot be read"`,
	} {
		eventually(t, func() error {
			if !strings.Contains(w.logged(), want) {
				return fmt.Errorf("not in the log: %s\n%s", want, w.logged())
			}
			return nil
		})
	}
	stop()
}

func TestANewWatcherRemembersWhatAnEarlierOneCounted(t *testing.T) {
	srv := bustest.Start(t)
	v := sighttest.Start(t, srv.Bus(t, "analyzer"))
	w := newWorld()
	o, stop := run(t, w.config(srv.Bus(t, "watcher")))
	<-o.Begun()
	stop()
	w.change(func(w *world) { w.pods.Count = 0 })
	run(t, w.config(srv.Bus(t, "watcher")))
	sighttest.Is(t, v, heal.Sight{Reason: heal.ReasonBlind, Detail: "pods fell from 100 to 0 in one resync; not confirmed yet"})
}

func TestNothingIsSaidBeforeItCanBeStored(t *testing.T) {
	srv := bustest.Start(t)
	b := srv.Bus(t, "watcher")
	srv.Stop()
	w := newWorld()
	o, _ := run(t, w.config(b))
	eventually(t, func() error { // it looks, and cannot say anything
		if o.State().State != heal.ObserverSettling {
			return errors.New("it trusts itself")
		}
		return nil
	})
	select {
	case <-o.Begun():
		t.Fatal("it has begun without a word")
	default:
	}
	srv.Restart(t)
	<-o.Begun()
	v := sighttest.Start(t, srv.Bus(t, "analyzer"))
	settles(t, v)

	// And it goes on after NATS was away.
	srv.Restart(t)
	w.change(func(w *world) { w.nodes = []doubt.Node{{UID: "a"}, {UID: "b"}} })
	sighttest.Is(t, v, heal.Sight{Reason: heal.ReasonBlind, Detail: "2 of 2 nodes are not ready at once"})
}

func TestStaleLeasesAreSeenBeforeTheNodesAre(t *testing.T) {
	srv := bustest.Start(t)
	v := sighttest.Start(t, srv.Bus(t, "analyzer"))
	w := newWorld()
	w.leases = func() (int, int, error) { return 10, 8, nil }
	w.nodes = make([]doubt.Node, 10)
	for i := range w.nodes {
		w.nodes[i] = doubt.Node{UID: fmt.Sprint(i), Ready: i > 1}
	}
	run(t, w.config(srv.Bus(t, "watcher")))
	sighttest.Is(t, v, heal.Sight{Reason: heal.ReasonBlind, Detail: "8 of 10 nodes have not renewed their leases for 40s, together"})
}
