package demo

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/heal"
)

func TestTheReceiverCountsAndShows(t *testing.T) {
	r, err := startReceiver(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var shown []string
	r.shows(func(channel, text string) { shown = append(shown, channel+": "+text) })
	event := raw(t, bus.Results.Stream, 9, end(decide(crash("cart", "cart-1", 4), heal.Restart), heal.Succeeded, 5, 4, "evict")).Data

	tests := []struct {
		name, path, body string
		want             int
	}{
		{"a plain message", "/slack/monitoring", `{"text":"cart &lt;healed&gt;"}`, http.StatusOK},
		{"blocks and attachments", "/slack/incidents", `{"text":"hidden","blocks":[{"type":"section","text":{"type":"mrkdwn","text":"*node-2* is down"},
			"fields":[{"text":"severity: high"}]},{"type":"context","elements":[{"text":"i-1"}]}],"attachments":[{"text":"more"}]}`, http.StatusOK},
		{"no message", "/slack/incidents", `text`, http.StatusBadRequest},
		{"a CloudEvent", "/webhook", string(event), http.StatusNoContent},
		{"something else", "/webhook", `{"specversion":"1.0"}`, http.StatusBadRequest},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			res, err := http.Post(r.url+tt.path, heal.ContentType, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != tt.want {
				t.Errorf("answered %d, want %d", res.StatusCode, tt.want)
			}
		})
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	want := []string{"#monitoring: cart <healed>", "#incidents: *node-2* is down\nseverity: high\ni-1\nmore"}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(tally{Slack: 2, Webhook: 1, Bad: 1}, r.received()); diff != "" {
		t.Errorf("counted (-want +got):\n%s", diff)
	}
}
