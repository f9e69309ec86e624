package sight_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/sight"
)

func TestMain(m *testing.M) { bustest.VerifyTestMain(m) }

func observer(id string, seen time.Time, doubts ...heal.Doubt) heal.Observer {
	o := heal.Observer{ID: id, State: heal.ObserverClear, Doubts: doubts, Since: seen, SeenAt: seen}
	if len(doubts) > 0 {
		o.State = heal.ObserverBlind
	}
	return o
}

func start(t *testing.T, b *bus.Bus) *sight.View {
	t.Helper()
	v := sight.New(b, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return v
}

// until asks until the sight is as wanted.
func until(t *testing.T, v *sight.View, want heal.Sight) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		got := v.Now(ctx)
		if got == want {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("sight (-got +want)\n%s", cmp.Diff(got, want))
		case <-tick.C:
		}
	}
}

func TestTheFirstAnswerKnowsWhatWasSaidBefore(t *testing.T) {
	srv := bustest.Start(t)
	store := bus.NewStore[heal.Observer](srv.Bus(t, "watcher"), bus.ObserversBucket)
	said := observer("a", time.Now(), heal.Doubt{Name: "clock", Detail: "the clock jumped by 1h0m0s"})
	rev, err := store.Create(t.Context(), "a", said)
	if err != nil {
		t.Fatal(err)
	}
	v := start(t, srv.Bus(t, "analyzer"))
	blind := heal.Sight{Reason: heal.ReasonBlind, Detail: "none of 1 watchers sees clearly: the clock jumped by 1h0m0s"}
	if diff := cmp.Diff(v.Now(t.Context()), blind); diff != "" {
		t.Errorf("at once: (-got +want)\n%s", diff)
	}
	if _, err := store.Update(t.Context(), "a", observer("a", time.Now()), rev); err != nil {
		t.Fatal(err)
	}
	clear := heal.Sight{Clear: true, Detail: "1 of 1 watchers see clearly"}
	until(t, v, clear)

	srv.Restart(t)
	until(t, v, clear)
}

func TestWhatIsNotValidDoesNotCount(t *testing.T) {
	srv := bustest.Start(t)
	store := bus.NewStore[heal.Observer](srv.Bus(t, "watcher"), bus.ObserversBucket)
	if _, err := store.Create(t.Context(), "a", heal.Observer{ID: "a", State: "dazzled"}); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Create(t.Context(), "b", observer("b", time.Now())); err != nil {
		t.Fatal(err)
	}
	until(t, start(t, srv.Bus(t, "analyzer")), heal.Sight{Clear: true, Detail: "1 of 1 watchers see clearly"})
}

func TestNothingToReadIsNoClearSight(t *testing.T) {
	srv := bustest.Start(t)
	b := srv.Bus(t, "analyzer")
	srv.Stop()
	got := start(t, b).Now(t.Context())
	if want := (heal.Sight{Reason: heal.ReasonBlind, Detail: "how well the watchers see cannot be read"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
