package watch

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// scripted is a reach whose requests end as the test says.
type scripted struct {
	list, watch error
	silent      bool // the watch ends as client-go lets it end after a timeout
}

func (s *scripted) reach() reach {
	return reach{
		List: func(context.Context, metav1.ListOptions) (runtime.Object, error) { return nil, s.list },
		Watch: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
			if s.silent {
				return watch.NewEmptyWatch(), nil
			}
			return watch.NewFake(), s.watch
		},
	}
}

func TestShortSilenceOfTheAPIServerIsNoBlindnessALongOneIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := &health{resource: "pods", log: slog.New(slog.NewTextHandler(&log, nil))}
		server := &scripted{watch: errors.New("connection refused")}
		r := h.observe(server.reach())
		ask := func() { _, _ = r.Watch(t.Context(), metav1.ListOptions{}) }
		blind := func() error { return h.blind(true, time.Now()) }

		ask()
		if err := blind(); err != nil || !h.troubled() {
			t.Errorf("after one error: %v, troubled %v; want no blindness, but trouble", err, h.troubled())
		}
		time.Sleep(maxBlind + time.Second)
		ask()
		if err := blind(); err == nil || !strings.Contains(err.Error(), "no watch of pods for 1m1s: watch pods: connection refused") {
			t.Errorf("after a minute of errors: %v", err)
		}
		if n := strings.Count(log.String(), "cannot watch the cluster"); n != 1 {
			t.Errorf("logged %d times, want once:\n%s", n, log.String())
		}
		time.Sleep(remind)
		ask()
		if n := strings.Count(log.String(), "cannot watch the cluster"); n != 2 {
			t.Errorf("logged %d times after %s, want a reminder:\n%s", n, remind, log.String())
		}
		if _, err := r.List(t.Context(), metav1.ListOptions{}); err != nil || blind() == nil {
			t.Errorf("a list that works (%v) does not show what happens next", err)
		}
		server.watch = nil
		ask()
		if err := blind(); err != nil || h.troubled() {
			t.Errorf("after a watch began: %v, troubled %v", err, h.troubled())
		}
		if !strings.Contains(log.String(), "watching the cluster again") {
			t.Errorf("the end is not logged:\n%s", log.String())
		}
	})
}

func TestWatchThatIsEmptyBecauseNobodyAnsweredIsAFailure(t *testing.T) {
	h := &health{resource: "pods", log: slog.New(slog.DiscardHandler)}
	_, _ = h.observe((&scripted{silent: true}).reach()).Watch(t.Context(), metav1.ListOptions{})
	if !h.troubled() {
		t.Error("an API server that does not answer is taken for one that does")
	}
}

func TestWatchThatNeverBeginsIsNoticedWhileItIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{resource: "pods", log: slog.New(slog.DiscardHandler)}
		answer := make(chan struct{})
		r := h.observe(reach{Watch: func(context.Context, metav1.ListOptions) (watch.Interface, error) {
			<-answer
			return watch.NewFake(), nil
		}})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = r.Watch(t.Context(), metav1.ListOptions{})
		}()
		time.Sleep(maxBlind + time.Second)
		if err := h.blind(true, time.Now()); err == nil || !strings.Contains(err.Error(), "does not answer") {
			t.Errorf("after %s without an answer: %v", maxBlind, err)
		}
		close(answer)
		<-ended
		if err := h.blind(true, time.Now()); err != nil || h.troubled() {
			t.Errorf("after the answer: %v", err)
		}
	})
}

func TestErrorsThatBelongToTheNormalCourseAreNone(t *testing.T) {
	h := &health{resource: "pods", log: slog.New(slog.DiscardHandler)}
	server := &scripted{}
	r := h.observe(server.reach())

	server.list = apierrors.NewResourceExpired("too old")
	_, _ = r.List(t.Context(), metav1.ListOptions{})
	server.watch = &apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonGone}}
	_, _ = r.Watch(t.Context(), metav1.ListOptions{})
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	server.watch = context.Canceled
	_, _ = r.Watch(ended, metav1.ListOptions{})

	if h.troubled() {
		t.Errorf("troubled: %v", h.blind(false, time.Now()))
	}
	if err := h.blind(false, time.Now()); err == nil || !strings.Contains(err.Error(), "initial list") {
		t.Errorf("before the first list: %v, want that it is missing", err)
	}
}
