package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/bus/bustest"
)

func TestAServiceAnswersAndIsListedAsAMicroService(t *testing.T) {
	srv := bustest.Listen(t)
	asker := srv.Connect(t, bus.Options{Service: "selfheal"})
	api, err := srv.Connect(t, bus.Options{Service: "analyzer"}).Serve("v1.2.3-4-gabcdef", "Decides.")
	if err != nil {
		t.Fatal(err)
	}
	err = api.Add(bus.Endpoint{Name: "double", Summary: "Doubles.", Answer: func(_ context.Context, question []byte) (any, error) {
		var n int
		if err := json.Unmarshal(question, &n); err != nil {
			return nil, bus.Permanent(fmt.Errorf("want a number\r\nX: 1"))
		}
		if n == 0 {
			return nil, fmt.Errorf("no double of 0: %w", bus.ErrNotFound)
		}
		return 2 * n, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(question any) (int, error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		for {
			n, err := bus.Ask[int](ctx, asker, "analyzer", "double", question)
			if err != nil && strings.Contains(err.Error(), "is there to answer") && ctx.Err() == nil {
				continue // it is about to be
			}
			return n, err
		}
	}
	if n, err := ask(21); err != nil || n != 42 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := ask(0); !errors.Is(err, bus.ErrNotFound) || err.Error() != "no double of 0: not found" {
		t.Errorf("of nothing: %v", err)
	}
	if _, err := ask("x"); err == nil || errors.Is(err, bus.ErrNotFound) || !strings.Contains(err.Error(), "want a number") || strings.ContainsAny(err.Error(), "\r\n") {
		t.Errorf("of a bad question: %v", err)
	}

	nc, err := nats.Connect(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	m, err := nc.Request("$SRV.STATS.selfheal-analyzer", nil, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	var stats micro.Stats
	if err := json.Unmarshal(m.Data, &stats); err != nil {
		t.Fatal(err)
	}
	if stats.Version != "1.2.3-4-gabcdef" || stats.Metadata["cluster"] != bustest.Cluster || len(stats.Endpoints) != 1 ||
		stats.Endpoints[0].NumRequests != 3 || stats.Endpoints[0].Subject != "selfheal.v1.test.api.analyzer.double" {
		t.Errorf("%+v", stats)
	}

	api.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for err = nil; err == nil; { // what was asked before its end is answered still
		_, err = bus.Ask[int](ctx, asker, "analyzer", "double", 1)
	}
	if !strings.Contains(err.Error(), "no analyzer of cluster test is there to answer") {
		t.Errorf("after its end: %v", err)
	}
}

func TestAnyVersionCanBeServed(t *testing.T) {
	srv := bustest.Start(t)
	for _, version := range []string{"v0.0.0-dev", "c6cb575", "", "v1.0.0-rc.1", "v1.0.0+dirty", "dev", "v2", "v1.0.0-01", "1.0.0-a..b"} {
		api, err := srv.Connect(t, bus.Options{Service: "watcher"}).Serve(version, "Watches.")
		if err != nil {
			t.Errorf("%q: %v", version, err)
			continue
		}
		api.Close()
	}
}
