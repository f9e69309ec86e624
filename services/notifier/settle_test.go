package notifier

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/talk"
)

// The end that no message announces is told once, also if we die over it.
func TestAnEndThatIsOnlyQuietIsToldOnceWhereverWeDie(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	b := server.Bus(t, Name)
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan heal.Notification, 16)
	go func() {
		_ = bus.Notifications.Consume(t.Context(), b, bus.Consumer{Name: "notifier-slack", Filter: "slack.>"}, func(_ context.Context, m bus.Message[heal.Notification]) error {
			told <- m.Data
			return nil
		})
	}()
	next := func(name string) heal.Notification {
		t.Helper()
		select {
		case n := <-told:
			return n
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: nobody is told", name)
			return heal.Notification{}
		}
	}
	incidents := route.Listener{Channel: "slack", To: "#incidents", Audience: route.Incident}
	begin := func() *desk {
		d := newDesk(b, slog.New(slog.DiscardHandler), m, defaultPolicy(t), []route.Listener{incidents})
		d.began = time.Now().Add(-time.Hour)
		return d
	}
	ctx := t.Context()
	for name, die := range map[string]func(d *desk, news talk.News, stored time.Time){
		"before anything is stored": func(*desk, talk.News, time.Time) {},
		"before anybody is told": func(d *desk, news talk.News, stored time.Time) {
			old, rev, err := d.recall(ctx, critical("before anybody is told").IncidentID)
			if err != nil {
				t.Fatal(err)
			}
			news.Now = stored
			next, _, _, err := d.decide(ctx, old, news, stored, map[string]string{})
			if err != nil || d.put(ctx, next, rev) != nil {
				t.Fatal(err)
			}
		},
		"after they were told": func(d *desk, news talk.News, stored time.Time) {
			if err := d.hear(ctx, critical("after they were told").IncidentID, news, stored); err != nil {
				t.Fatal(err)
			}
		},
	} {
		d, now := begin(), time.Now()
		failed := critical(name)
		r := ended(failed, heal.Failed)
		over := gone(failed)
		for _, news := range []talk.News{{ID: "r-" + name, At: now, Result: &r}, {ID: "o-" + name, At: now, Over: &over}} {
			if err := d.hear(ctx, failed.IncidentID, news, now); err != nil {
				t.Fatal(err)
			}
		}
		if n := next(name); n.Phase != heal.PhaseFailed {
			t.Fatalf("%s: first told %s", name, n.Phase)
		}
		later := now.Add(time.Hour)
		i, _, err := d.recall(ctx, failed.IncidentID)
		if err != nil {
			t.Fatal(err)
		}
		die(d, *i.Settle(later, time.Minute), later)

		d = begin()
		for range 3 {
			if i, _, err = d.recall(ctx, failed.IncidentID); err != nil {
				t.Fatal(err)
			}
			if err := d.settle(ctx, []talk.Incident{slim(i)}, later); err != nil {
				t.Fatal(err)
			}
		}
		if n := next(name); n.Phase != heal.PhaseResolved || n.Failure == nil || n.Incident != failed.IncidentID {
			t.Errorf("%s: told %+v", name, n)
		}
		if i, _, err = d.recall(ctx, failed.IncidentID); err != nil || i.Final != nil || !i.Phase.Over() {
			t.Errorf("%s: left %+v, %v", name, i.Final, err)
		}
		if len(told) != 0 {
			t.Errorf("%s: told again: %+v", name, next(name))
		}
	}
}
