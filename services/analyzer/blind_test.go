package analyzer

import (
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

func TestNothingIsDecidedToBeDoneWhileTheWatchersDoubtWhatTheySee(t *testing.T) {
	p := newPipeline(t)
	store := bus.NewStore[heal.Observer](p.watcher, bus.ObserversBucket)
	now := time.Now().UTC()
	o := heal.Observer{ID: "o-1", State: heal.ObserverBlind, Since: now, SeenAt: now, Doubts: []heal.Doubt{
		{Name: "watch", Detail: "no watch of pods for 1m5s", Since: now},
	}}
	rev, err := store.Create(t.Context(), o.ID, o)
	if err != nil {
		t.Fatal(err)
	}
	p.analyzer(t, Config{Mode: heal.ModeAuto}, Deps{})
	decided := func(f heal.Failure) heal.Decision {
		t.Helper()
		p.announce(t, f)
		select {
		case d := <-p.decided:
			return d
		case <-time.After(patience):
			t.Fatal("nothing was decided")
		}
		return heal.Decision{}
	}
	d := decided(podFailure("checkout", "e1", 1, time.Now()))
	if d.Reason != heal.ReasonBlind || d.Acts() {
		t.Errorf("decided with reason %s, acting %v; want %s, and not to act", d.Reason, d.Acts(), heal.ReasonBlind)
	}
	for _, v := range d.Guards {
		if want := "none of 1 watchers sees clearly: no watch of pods for 1m5s"; v.Name == "blind" && (v.Allowed || v.Detail != want) {
			t.Errorf("the guard says %+v, want a veto with %q", v, want)
		}
	}

	// What still lasts when they see again is announced, and judged, again.
	o.State, o.Doubts, o.SeenAt = heal.ObserverClear, []heal.Doubt{}, time.Now().UTC()
	if _, err := store.Update(t.Context(), o.ID, o, rev); err != nil {
		t.Fatal(err)
	}
	for n := 2; !decided(podFailure("checkout", "e1", n, time.Now())).Acts(); n++ {
		if n > 200 { // the word is on its way for a moment
			t.Fatal("nothing is done any more")
		}
	}
}
