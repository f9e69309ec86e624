package bus_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
	"github.com/selfheal/selfheal/pkg/heal"
)

func services() []string { return []string{"watcher", "analyzer", "actuator", "notifier", "selfheal"} }

func TestAllServicesProvisionAtOnceAndAgree(t *testing.T) {
	s := bustest.Start(t)
	var wg sync.WaitGroup
	for _, service := range services() {
		b := s.Connect(t, bus.Options{Service: service})
		wg.Go(func() {
			if err := b.Provision(timeout(t)); err != nil {
				t.Errorf("%s: %v", service, err)
			}
			if err := b.Ready(); err != nil {
				t.Errorf("%s is not ready: %v", service, err)
			}
		})
	}
	wg.Wait()
	type limits struct {
		Subjects []string
		Sources  []string
		Age      time.Duration
		MsgSize  int32
		Discard  jetstream.DiscardPolicy
	}
	got := map[string]limits{}
	js := s.JetStream(t)
	list := js.ListStreams(timeout(t))
	for info := range list.Info() {
		c := info.Config
		l := limits{Subjects: c.Subjects, Age: c.MaxAge, MsgSize: c.MaxMsgSize, Discard: c.Discard}
		for _, source := range c.Sources {
			l.Sources = append(l.Sources, source.Name)
		}
		got[c.Name] = l
		if c.Storage != jetstream.FileStorage || c.Retention != jetstream.LimitsPolicy || c.MaxBytes <= 0 || c.AllowRollup || c.AllowMsgTTL || c.Duplicates > c.MaxAge {
			t.Errorf("%s: file %v, limits %v, max_bytes %d, rollup %v, msg_ttl %v, duplicates %v", c.Name, c.Storage, c.Retention, c.MaxBytes, c.AllowRollup, c.AllowMsgTTL, c.Duplicates)
		}
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	want := map[string]limits{
		"SELFHEAL_FAILURES":         {Subjects: []string{"selfheal.v1.*.failures.>"}, Age: 7 * day, MsgSize: 16 << 10, Discard: jetstream.DiscardNew},
		"SELFHEAL_DECISIONS":        {Subjects: []string{"selfheal.v1.*.decisions.>", "selfheal.v1.*.approvals.>", "selfheal.v1.*.control.>"}, Age: 30 * day, MsgSize: 64 << 10, Discard: jetstream.DiscardNew},
		"SELFHEAL_RESULTS":          {Subjects: []string{"selfheal.v1.*.results.>"}, Age: 30 * day, MsgSize: 256 << 10, Discard: jetstream.DiscardNew},
		"SELFHEAL_NOTIFICATIONS":    {Subjects: []string{"selfheal.v1.*.notifications.>"}, Age: 7 * day, MsgSize: 256 << 10, Discard: jetstream.DiscardNew},
		"SELFHEAL_DLQ":              {Subjects: []string{"selfheal.v1.*.dlq.>"}, Age: 30 * day, MsgSize: 1 << 20, Discard: jetstream.DiscardOld},
		"SELFHEAL_AUDIT":            {Sources: []string{"SELFHEAL_FAILURES", "SELFHEAL_DECISIONS", "SELFHEAL_RESULTS"}, Age: 90 * day, MsgSize: 320 << 10, Discard: jetstream.DiscardOld},
		"KV_SELFHEAL_EPISODES":      {Subjects: []string{"$KV.SELFHEAL_EPISODES.>"}, Age: 30 * day, MsgSize: 256 << 10, Discard: jetstream.DiscardNew},
		"KV_SELFHEAL_POSITIONS":     {Subjects: []string{"$KV.SELFHEAL_POSITIONS.>"}, Age: day, MsgSize: 256 << 10, Discard: jetstream.DiscardNew},
		"KV_SELFHEAL_OBSERVERS":     {Subjects: []string{"$KV.SELFHEAL_OBSERVERS.>"}, Age: day, MsgSize: 256 << 10, Discard: jetstream.DiscardNew},
		"KV_SELFHEAL_INCIDENTS":     {Subjects: []string{"$KV.SELFHEAL_INCIDENTS.>"}, Age: 30 * day, MsgSize: 256 << 10, Discard: jetstream.DiscardNew},
		"KV_SELFHEAL_ACTIONS":       {Subjects: []string{"$KV.SELFHEAL_ACTIONS.>"}, Age: 30 * day, MsgSize: 256 << 10, Discard: jetstream.DiscardNew},
		"KV_SELFHEAL_CONVERSATIONS": {Subjects: []string{"$KV.SELFHEAL_CONVERSATIONS.>"}, Age: 8 * day, MsgSize: 256 << 10, Discard: jetstream.DiscardNew},
		"KV_SELFHEAL_SILENCES":      {Subjects: []string{"$KV.SELFHEAL_SILENCES.>"}, Age: 30 * day, MsgSize: 256 << 10, Discard: jetstream.DiscardNew},
		"OBJ_SELFHEAL_EVIDENCE":     {Subjects: []string{"$O.SELFHEAL_EVIDENCE.C.>", "$O.SELFHEAL_EVIDENCE.M.>"}, Age: 7 * day, MsgSize: 144 << 10, Discard: jetstream.DiscardOld},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("streams (-want +got):\n%s", diff)
	}
}

func TestDriftIsNamedByAllAndMendedByTheOwner(t *testing.T) {
	tests := []struct {
		name   string
		change func(*jetstream.StreamConfig)
		want   string
		mended bool
	}{
		{"retention, which cannot be changed", func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
			`stream SELFHEAL_DECISIONS: retention is "workqueue", want "limits"`, false},
		{"storage, which cannot be changed", func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
			`stream SELFHEAL_DECISIONS: storage is "memory", want "file"`, false},
		{"age and rollups", func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour; c.AllowRollup = true },
			`stream SELFHEAL_DECISIONS: max_age is "1h0m0s", want "720h0m0s"; allow_rollup_hdrs is "true", want "false"`, true},
		{"what to drop when it is full", func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardOld },
			`stream SELFHEAL_DECISIONS: discard is "old", want "new"`, true},
		{"subjects", func(c *jetstream.StreamConfig) { c.Subjects = []string{"selfheal.v1.*.decisions.>"} },
			`stream SELFHEAL_DECISIONS: subjects is "selfheal.v1.*.decisions.>", want "selfheal.v1.*.approvals.>,selfheal.v1.*.control.>,selfheal.v1.*.decisions.>"`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ctx := timeout(t)
			s := bustest.Start(t)
			config := jetstream.StreamConfig{
				Name: "SELFHEAL_DECISIONS", Subjects: []string{"selfheal.v1.*.decisions.>", "selfheal.v1.*.approvals.>", "selfheal.v1.*.control.>"},
				MaxAge: 30 * 24 * time.Hour, MaxBytes: 512 << 20, MaxMsgSize: 64 << 10, Discard: jetstream.DiscardNew,
				Duplicates: time.Hour, AllowAtomicPublish: true, AllowDirect: true,
			}
			tt.change(&config)
			if _, err := s.JetStream(t).CreateStream(ctx, config); err != nil {
				t.Fatal(err)
			}
			reader := s.Connect(t, bus.Options{Service: "actuator"})
			if err := reader.Provision(ctx); err != nil {
				t.Fatal(err)
			}
			if err := reader.Ready(); err == nil || err.Error() != tt.want {
				t.Errorf("reader\ngot  %v\nwant %s", err, tt.want)
			}
			owner := s.Connect(t, bus.Options{Service: "analyzer"})
			if err := owner.Provision(ctx); err != nil {
				t.Fatal(err)
			}
			err := owner.Ready()
			if tt.mended && err != nil {
				t.Errorf("owner: got %v, want it mended", err)
			}
			if !tt.mended && (err == nil || !strings.HasPrefix(err.Error(), tt.want+"; update: ")) {
				t.Errorf("owner\ngot  %v\nwant %s; update: …", err, tt.want)
			}
		})
	}
}

func TestAStreamThatAnOperatorGaveMoreRoomKeepsIt(t *testing.T) {
	ctx, s := timeout(t), bustest.Start(t)
	owner := s.Connect(t, bus.Options{Service: "actuator"})
	if err := owner.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	js := s.JetStream(t)
	stream, err := js.Stream(ctx, bus.Results.Stream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxBytes, config.MaxAge = 3<<30, time.Hour // the second is no operator's choice
	if _, err := js.UpdateStream(ctx, config); err != nil {
		t.Fatal(err)
	}
	again := s.Connect(t, bus.Options{Service: "actuator"})
	if err := again.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if stream, err = js.Stream(ctx, bus.Results.Stream); err != nil {
		t.Fatal(err)
	}
	if c := stream.CachedInfo().Config; c.MaxBytes != 3<<30 || c.MaxAge == time.Hour {
		t.Errorf("it has %d bytes for %s", c.MaxBytes, c.MaxAge)
	}
	if err := again.Ready(); err != nil {
		t.Errorf("that is taken for a difference: %v", err)
	}
}

func TestADeletedStreamIsNoticedAndMadeAgain(t *testing.T) {
	s := bustest.Start(t)
	b := s.Connect(t, bus.Options{Service: "watcher"})
	b.Hurry(time.Minute, 10*time.Millisecond)
	if err := b.Provision(timeout(t)); err != nil {
		t.Fatal(err)
	}
	got := make(chan string, 10)
	consume(t, b, bus.Consumer{Name: "analyzer", Workers: 2}, func(_ context.Context, m bus.Message[heal.Failure]) error {
		got <- m.Data.ResourceName
		return nil
	})
	if err := bus.Failures.Publish(t.Context(), b, failure("before")); err != nil {
		t.Fatal(err)
	}
	if name := <-got; name != "before" {
		t.Fatalf("got %q", name)
	}
	if err := s.JetStream(t).DeleteStream(t.Context(), bus.Failures.Stream); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it can be published again", func() bool { return bus.Failures.Publish(t.Context(), b, failure("after")) == nil })
	if name := <-got; name != "after" {
		t.Errorf("got %q, want the message of the new stream", name)
	}
	eventually(t, "the bus is ready", func() bool { return b.Ready() == nil })
}

func TestAFullStreamRefusesAndDropsNothing(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "watcher")
	js := s.JetStream(t)
	stream, err := js.Stream(t.Context(), bus.Failures.Stream)
	if err != nil {
		t.Fatal(err)
	}
	config := stream.CachedInfo().Config
	config.MaxBytes = 20_000
	if _, err := js.UpdateStream(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	stored := 0
	for err == nil {
		if err = bus.Failures.Publish(t.Context(), b, failure(fmt.Sprintf("pod-%d", stored))); err == nil {
			stored++
		}
	}
	if bus.IsPermanent(err) || !strings.Contains(err.Error(), "stream SELFHEAL_FAILURES is full") {
		t.Errorf("got %v, want a transient error that says so", err)
	}
	info, err := stream.Info(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != uint64(stored) || stored == 0 {
		t.Errorf("the stream holds %d messages, %d were accepted", info.State.Msgs, stored)
	}
}

func TestTheAuditStreamKeepsACopyThatNobodyCanDelete(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "watcher")
	if err := bus.Failures.Publish(t.Context(), b, failure("a")); err != nil {
		t.Fatal(err)
	}
	audit, err := s.JetStream(t).Stream(t.Context(), "SELFHEAL_AUDIT")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the copy is there", func() bool {
		info, err := audit.Info(t.Context())
		return err == nil && info.State.Msgs == 1
	})
	if err := audit.DeleteMsg(t.Context(), 1); err == nil {
		t.Error("a message was deleted")
	}
	if err := audit.Purge(t.Context()); err == nil {
		t.Error("the stream was purged")
	}
}

func TestARollupIsRefused(t *testing.T) {
	s := bustest.Start(t)
	b := s.Bus(t, "analyzer")
	store := bus.NewStore[int](b, bus.IncidentsBucket)
	if _, err := store.Create(t.Context(), "a", 1); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"$KV.SELFHEAL_INCIDENTS.x", "selfheal.v1.test.failures.x"} {
		_, err := s.JetStream(t).PublishMsg(t.Context(), &nats.Msg{Subject: subject, Header: nats.Header{"Nats-Rollup": {"all"}}})
		if err == nil {
			t.Errorf("%s: a rollup was accepted", subject)
		}
	}
	if _, _, err := store.Get(t.Context(), "a"); err != nil {
		t.Errorf("the bucket was wiped: %v", err)
	}
}
