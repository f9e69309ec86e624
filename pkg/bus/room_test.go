package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

func TestANearlyFullStageDropsWhatEverybodyHasRead(t *testing.T) {
	s := bustest.Start(t)
	var log logbook
	b := s.Connect(t, bus.Options{Service: "watcher", Log: log.logger()})
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	js := s.JetStream(t)
	stream, err := js.Stream(t.Context(), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxBytes = 40_000
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	state := func() jetstream.StreamState {
		t.Helper()
		info, err := stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return info.State
	}
	for i := 0; err == nil; i++ {
		err = bus.Failures.Publish(t.Context(), b, failure(fmt.Sprintf("pod-%d", i)))
	}
	full := state()
	eventually(t, "the audit stream has copied all", func() bool {
		audit, err := js.Stream(t.Context(), "SELFHEAL_AUDIT")
		return err == nil && audit.CachedInfo().State.Msgs == full.Msgs
	})
	kept := func(when string) {
		t.Helper()
		if got := state(); got.FirstSeq != full.FirstSeq {
			t.Fatalf("%s: the messages before %d were dropped", when, got.FirstSeq)
		}
	}

	b.MakeRooms(t.Context(), 0)
	kept("before anybody reads it")

	read := func(durable string, n int) {
		t.Helper()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		err := bus.Failures.Consume(ctx, s.Connect(t, bus.Options{Service: "analyzer"}), bus.Consumer{Name: durable}, func(context.Context, bus.Message[heal.Failure]) error {
			if n--; n < 0 {
				cancel()
				return errors.New("not now")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	read("one", int(full.Msgs)-1)
	read("two", 5)
	b.MakeRooms(t.Context(), time.Hour)
	kept("when it is young")

	b.MakeRooms(t.Context(), 0)
	consumer, err := stream.Consumer(t.Context(), "two")
	if err != nil {
		t.Fatal(err)
	}
	if got, floor := state().FirstSeq, consumer.CachedInfo().AckFloor.Stream; got == full.FirstSeq || got > floor+1 {
		t.Errorf("it begins with %d, and the slowest has read until %d", got, floor)
	}
	if n := log.count("stream made room by dropping what was read"); n != 1 {
		t.Errorf("it was said %d times", n)
	}
	if err := bus.Failures.Publish(t.Context(), b, failure("one-more")); err != nil {
		t.Errorf("there is no room: %v", err)
	}
	audit, err := js.Stream(t.Context(), "SELFHEAL_AUDIT")
	if err != nil || audit.CachedInfo().State.Msgs < full.Msgs {
		t.Errorf("the audit stream lost some: %v", err)
	}
}
