package rights_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/micro"

	"github.com/selfheal/selfheal/pkg/bus"
)

func TestTheOperatorAsksEveryServiceAndNobodyElseDoes(t *testing.T) {
	s := start(t)
	for _, name := range []string{"watcher", "analyzer", "actuator", "notifier"} {
		api, err := s.bus(t, name).Serve("v1.0.0", "Works.")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(api.Close)
		endpoints := []string{"ready"}
		if name == "analyzer" {
			endpoints = append(endpoints, "explain", "policy")
		}
		for _, e := range endpoints {
			if err := api.Add(bus.Endpoint{Name: e, Answer: func(context.Context, []byte) (any, error) { return name + "." + e, nil }}); err != nil {
				t.Fatal(err)
			}
		}
	}
	operator := s.bus(t, "operator")
	ctx := limited(t, 30*time.Second)
	for _, want := range []string{"watcher.ready", "analyzer.ready", "actuator.ready", "notifier.ready", "analyzer.explain", "analyzer.policy"} {
		service, endpoint, _ := strings.Cut(want, ".")
		got, err := bus.Ask[string](ctx, operator, service, endpoint, nil)
		for err != nil && ctx.Err() == nil { // it connects, or subscribes, still
			got, err = bus.Ask[string](ctx, operator, service, endpoint, nil)
		}
		if err != nil || got != want {
			t.Errorf("asked for %s: %q, %v", want, got, err)
		}
	}

	nc, _, _ := s.plain(t, "operator")
	replies, err := nc.SubscribeSync(nc.NewRespInbox())
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("$SRV.PING", replies.Subject, nil); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for len(seen) < 4 {
		m, err := replies.NextMsg(5 * time.Second)
		if err != nil {
			t.Fatalf("of four services %v were found: %v", seen, err)
		}
		var ping micro.Ping
		if err := json.Unmarshal(m.Data, &ping); err != nil {
			t.Fatal(err)
		}
		seen[ping.Name] = true
	}

	if _, err := bus.Ask[string](limited(t, 5*time.Second), s.bus(t, "notifier"), "analyzer", "explain", nil); err == nil {
		t.Error("the notifier may ask the analyzer")
	}
}
