package sight_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/sight/sighttest"
)

func TestMain(m *testing.M) { bustest.VerifyTestMain(m) }

func observer(id string, seen time.Time, doubts ...heal.Doubt) heal.Observer {
	o := heal.Observer{ID: id, State: heal.ObserverClear, Doubts: doubts, Since: seen, SeenAt: seen}
	if len(doubts) > 0 {
		o.State = heal.ObserverBlind
	}
	return o
}

func TestTheFirstAnswerKnowsWhatWasSaidBefore(t *testing.T) {
	srv := bustest.Start(t)
	store := bus.NewStore[heal.Observer](srv.Bus(t, "watcher"), bus.ObserversBucket)
	said := observer("a", time.Now(), heal.Doubt{Name: "clock", Detail: "the clock jumped by 1h0m0s"})
	rev, err := store.Create(t.Context(), "a", said)
	if err != nil {
		t.Fatal(err)
	}
	v := sighttest.Start(t, srv.Bus(t, "analyzer"))
	blind := heal.Sight{Reason: heal.ReasonBlind, Detail: "none of 1 watchers sees clearly: the clock jumped by 1h0m0s"}
	if diff := cmp.Diff(v.Now(t.Context()), blind); diff != "" {
		t.Errorf("at once: (-got +want)\n%s", diff)
	}
	if _, err := store.Update(t.Context(), "a", observer("a", time.Now()), rev); err != nil {
		t.Fatal(err)
	}
	clear := heal.Sight{Clear: true, Detail: "1 of 1 watchers see clearly"}
	sighttest.Is(t, v, clear)

	srv.Restart(t)
	sighttest.Is(t, v, clear)
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
	sighttest.Is(t, sighttest.Start(t, srv.Bus(t, "analyzer")), heal.Sight{Clear: true, Detail: "1 of 1 watchers see clearly"})
}

func TestNothingToReadIsNoClearSight(t *testing.T) {
	srv := bustest.Start(t)
	b := srv.Bus(t, "analyzer")
	srv.Stop()
	got := sighttest.Start(t, b).Now(t.Context())
	if want := (heal.Sight{Reason: heal.ReasonBlind, Detail: "how well the watchers see cannot be read"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
