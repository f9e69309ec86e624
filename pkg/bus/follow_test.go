package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

// following runs a follower until the test ends. What it takes comes as verb
// and reason, and "current" when that is said.
func following(t *testing.T, b *bus.Bus) <-chan string {
	t.Helper()
	said := make(chan string, 64)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- bus.Controls.Follow(ctx, b, bus.Follower[heal.Control]{
			Name:    "brake",
			Take:    func(m bus.Message[heal.Control]) { said <- m.Data.Verb + " " + m.Data.Reason },
			Current: func() { said <- "current" },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("follow: %v", err)
		}
	})
	return said
}

func control(t *testing.T, b *bus.Bus, verb, reason string) {
	t.Helper()
	if err := bus.Controls.Publish(t.Context(), b, heal.Control{Verb: verb, By: "me", Reason: reason, At: time.Now()}); err != nil {
		t.Fatal(err)
	}
}

// hear waits for as many sayings as are wanted, and compares them.
func hear(t *testing.T, said <-chan string, want ...string) {
	t.Helper()
	var got []string
	for range want {
		select {
		case s := <-said:
			got = append(got, s)
		case <-time.After(10 * time.Second):
			t.Fatalf("heard only %q, want %q", got, want)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("heard (-want +got):\n%s", diff)
	}
}

func TestEveryFollowerGetsTheLastOfEachSubjectAndEverythingSince(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	b := server.Bus(t, "selfheal")
	early := following(t, b)
	hear(t, early, "current")
	for _, c := range []struct{ verb, reason string }{{heal.Pause, "1"}, {heal.Pause, "2"}, {heal.Resume, "3"}} {
		control(t, b, c.verb, c.reason)
		hear(t, early, c.verb+" "+c.reason, "current")
	}

	late := following(t, server.Bus(t, "actuator"))
	hear(t, late, "pause 2", "resume 3", "current")
	control(t, b, heal.Pause, "4")
	hear(t, late, "pause 4", "current")
	hear(t, early, "pause 4", "current")
}

func TestAFollowerBeginsAnewWhenTheServerHasBeenAway(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	b := server.Bus(t, "selfheal")
	control(t, b, heal.Pause, "1")
	said := following(t, b)
	hear(t, said, "pause 1", "current")
	server.Restart(t)
	hear(t, said, "pause 1", "current")
}

func TestWhatAFollowerCannotReadIsADeadLetterOnceForAll(t *testing.T) {
	t.Parallel()
	server := bustest.Start(t)
	b := server.Bus(t, "selfheal")
	both := []<-chan string{following(t, b), following(t, server.Bus(t, "actuator"))}
	for _, said := range both {
		hear(t, said, "current")
	}
	server.PublishRaw(t, "selfheal.v1.test.control.pause", nil, []byte(`{"verb":"pause"}`))
	for _, said := range both {
		hear(t, said, "current")
	}
	letters := server.DeadLetters(t)
	if len(letters) != 1 || letters[0].Stage != "brake" || letters[0].Reason != heal.DeadBadMessage {
		t.Errorf("dead letters %+v, want one of stage brake", letters)
	}
}
