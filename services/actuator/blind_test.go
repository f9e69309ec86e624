package actuator_test

import (
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

func TestNothingIsDoneWhileTheWatchersDoubtWhatTheySee(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	sick := r.crash(r.ready(r.deploy("web", "shop/api:good", 2))[0])
	store := bus.NewStore[heal.Observer](r.server.Bus(t, "watcher"), bus.ObserversBucket)
	now := time.Now().UTC()
	doubtful := heal.Observer{ID: "o-2", State: heal.ObserverBlind, Since: now, SeenAt: now, Doubts: []heal.Doubt{
		{Name: "inventory", Cluster: true, Detail: "pods fell from 100 to 3 in one resync; not confirmed yet", Since: now},
	}}
	rev, err := store.Create(t.Context(), "o-2", doubtful)
	if err != nil {
		t.Fatal(err)
	}
	r.start(quick())
	res := r.carryOut(restartOf(sick))
	if got, want := end(res), (ended{heal.Rejected, heal.ReasonBlind}); got != want || res.Message != doubtful.Doubts[0].Detail {
		t.Errorf("ended %v with %q, want %v with %q", got, res.Message, want, doubtful.Doubts[0].Detail)
	}
	r.noWrites()

	// It is over: what is decided then is done.
	clear := heal.Observer{ID: "o-2", State: heal.ObserverClear, Doubts: []heal.Doubt{}, Since: now, SeenAt: time.Now().UTC()}
	if _, err := store.Update(t.Context(), "o-2", clear, rev); err != nil {
		t.Fatal(err)
	}
	res = r.carryOut(restartOf(sick))
	if got, want := end(res), (ended{heal.Succeeded, "Verified"}); got != want {
		t.Errorf("ended %v, want %v: %s", got, want, res.Message)
	}
}
