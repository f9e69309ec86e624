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

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

func TestShortSilenceOfTheAPIServerIsNoBlindnessALongOneIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h := &health{resource: "pods", log: slog.New(slog.NewTextHandler(&log, nil))}
		refused := errors.New("connection refused")
		blind := func() error { return h.blind(true, time.Now()) }

		h.Asked("watch")(refused)
		if err := blind(); err != nil || !h.troubled() {
			t.Errorf("after one error: %v, troubled %v; want no blindness, but trouble", err, h.troubled())
		}
		time.Sleep(maxBlind + time.Second)
		h.Asked("watch")(refused)
		if err := blind(); err == nil || !strings.Contains(err.Error(), "no watch of pods for 1m1s: watch pods: connection refused") {
			t.Errorf("after a minute of errors: %v", err)
		}
		if n := strings.Count(log.String(), "cannot watch the cluster"); n != 1 {
			t.Errorf("logged %d times, want once:\n%s", n, log.String())
		}
		time.Sleep(remind)
		h.Asked("watch")(refused)
		if n := strings.Count(log.String(), "cannot watch the cluster"); n != 2 {
			t.Errorf("logged %d times after %s, want a reminder:\n%s", n, remind, log.String())
		}
		h.Asked("list")(nil)
		if blind() == nil {
			t.Error("a list that works is taken for a sight of what happens next")
		}
		h.Asked("watch")(nil)
		if err := blind(); err != nil || h.troubled() {
			t.Errorf("after a watch began: %v, troubled %v", err, h.troubled())
		}
		if !strings.Contains(log.String(), "watching the cluster again") {
			t.Errorf("the end is not logged:\n%s", log.String())
		}
	})
}

func TestWatchThatNeverBeginsIsNoticedWhileItIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &health{resource: "pods", namespace: "shop", log: slog.New(slog.DiscardHandler)}
		answered := h.Asked("watch")
		time.Sleep(maxBlind + time.Second)
		if err := h.blind(true, time.Now()); err == nil || !strings.Contains(err.Error(), "pods in shop: the API server does not answer") {
			t.Errorf("after %s without an answer: %v", maxBlind, err)
		}
		answered(nil)
		if err := h.blind(true, time.Now()); err != nil || h.troubled() {
			t.Errorf("after the answer: %v", err)
		}
	})
}

func TestErrorsThatBelongToTheNormalCourseAreNone(t *testing.T) {
	h := &health{resource: "pods", log: slog.New(slog.DiscardHandler)}
	h.Asked("list")(apierrors.NewResourceExpired("too old"))
	h.Asked("watch")(&apierrors.StatusError{ErrStatus: metav1.Status{Reason: metav1.StatusReasonGone}})
	h.Failed("watch", apierrors.NewResourceExpired("too old"))
	h.Asked("watch")(context.Canceled)

	if h.troubled() {
		t.Errorf("troubled: %v", h.blind(false, time.Now()))
	}
	if err := h.blind(false, time.Now()); err == nil || !strings.Contains(err.Error(), "initial list") {
		t.Errorf("before the first list: %v, want that it is missing", err)
	}
}

func TestKindThatThisClusterDoesNotServeIsNoAlarm(t *testing.T) {
	var log bytes.Buffer
	h := &health{resource: "apiservices", optional: true, log: slog.New(slog.NewTextHandler(&log, nil))}
	missing := apierrors.NewNotFound(schema.GroupResource{Resource: "apiservices"}, "")
	h.Asked("watch")(missing)
	if !strings.Contains(log.String(), "level=INFO") || strings.Contains(log.String(), "level=WARN") {
		t.Errorf("logged as\n%s", log.String())
	}
	var s search
	var got []time.Duration
	for _, err := range []error{missing, missing, missing, missing, missing, errors.New("connection refused"), missing} {
		got = append(got, s.patience(err))
	}
	want := []time.Duration{5 * time.Minute, 10 * time.Minute, 20 * time.Minute, 40 * time.Minute, time.Hour, 0, 5 * time.Minute}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("asked again after (-want +got):\n%s", diff)
	}
}
