package timeline

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/cli/internal/screen"
	"github.com/selfheal/selfheal/pkg/bus"
)

// told is the column that says what happened.
func told(printed string) []string {
	var words []string
	for line := range strings.Lines(printed) {
		words = append(words, strings.Fields(line)[7])
	}
	return words
}

func TestWhatBelongsTogetherIsToldInOrder(t *testing.T) {
	story := stories(t)["a_pod_that_crashes_once"]
	decided, seen := story[0][0], story[0][1]
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		l := NewLive(screen.To(&out), start)
		messages := make(chan bus.Raw)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { l.Run(ctx, messages); close(ended) }()

		l.SayAfter(ctx, Line{At: at(5), Stage: Told, Word: "SLACK"})
		time.Sleep(settle / 2) // of the bubble's clock
		messages <- decided
		time.Sleep(settle / 2)
		messages <- seen
		time.Sleep(2 * settle)
		messages <- story[1][0]
		l.Say(ctx, Line{At: at(6), Stage: Aside, Word: "PERSON"})
		messages <- story[2][1]
		time.Sleep(2 * settle)
		synctest.Wait()
		if diff := cmp.Diff([]string{"SEEN", "DECIDED", "SLACK", "PERSON", "DONE", "HEALED"}, told(out.String())); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
		cancel()
		<-ended
		l.Say(ctx, Line{}) // nobody listens any more, and nobody waits
	})
}

func TestAStormDoesNotHoldUpTheTelling(t *testing.T) {
	story := stories(t)["a_pod_that_crashes_once"]
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		messages := make(chan bus.Raw)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { NewLive(screen.To(&out), start).Run(ctx, messages); close(ended) }()
		for range 2 * int(patience/(settle/2)) { // never quiet for long enough
			messages <- story[0][1]
			time.Sleep(settle / 2)
		}
		synctest.Wait()
		if got := len(told(out.String())); got < int(patience/(settle/2)) {
			t.Errorf("only %d lines were told meanwhile", got)
		}
		cancel()
		<-ended
	})
}

func TestTheFooterSaysWhatIsUnderWayInOneLine(t *testing.T) {
	story := stories(t)["a_pod_that_crashes_once"]
	l := NewLive(screen.To(nil), start)
	if got := l.footer(at(5)); got != "" {
		t.Errorf("with nothing under way it says %q", got)
	}
	l.state.Add(story[0])
	if got, want := l.footer(at(16.9)), "under way: A restart of shop/checkout-7d9f6c-x2kpl for 12 s"; !strings.HasSuffix(got, want) {
		t.Errorf("it says %q, want %q", got, want)
	}
	l.state.Add(story[2])
	if got := l.footer(at(40)); got != "" {
		t.Errorf("after the result it says %q", got)
	}
}
