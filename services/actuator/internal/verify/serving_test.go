package verify

import (
	"strings"
	"testing"

	"github.com/selfheal/selfheal/pkg/heal"
)

func TestARecoveryHasNotHelpedWhileAServiceHasFewerEndpoints(t *testing.T) {
	good := Sight{State: Good, Reason: "Verified", Subject: "x", Message: "web-2 is Ready"}
	for _, tt := range []struct {
		name   string
		sight  Sight
		before map[string]int
		now    map[string]int
		wanted int
		want   State
		says   string
	}{
		{"as many", good, map[string]int{"web": 2}, map[string]int{"web": 2}, 3, Good, "2 of the 2"},
		{"more", good, map[string]int{"web": 2}, map[string]int{"web": 3}, 3, Good, "3 of the 2"},
		{"fewer", good, map[string]int{"api": 2, "web": 2}, map[string]int{"api": 1, "web": 2}, 3, Pending, "Service api has 1 of the 2"},
		{"none any more", good, map[string]int{"web": 2}, nil, 3, Pending, "0 of the 2"},
		{"fewer, as fewer are wanted", good, map[string]int{"web": 3}, map[string]int{"web": 2}, 2, Good, "2 of the 3"},
		{"no service sent it anything", good, nil, nil, 3, Good, ""},
		{"it is not good anyway", Sight{State: Bad}, map[string]int{"web": 2}, nil, 3, Bad, ""},
	} {
		got := Serving{Before: tt.before, Now: tt.now, Wanted: tt.wanted}.Judge(tt.sight)
		said := got.Message
		for _, c := range got.Checks {
			said += c.Observed
		}
		if got.State != tt.want || !strings.Contains(said, tt.says) {
			t.Errorf("%s: %s, %q, want %s, saying %q", tt.name, got.State, said, tt.want, tt.says)
		}
		if got.State == Pending && (got.Subject != "" || got.Late == nil || got.Late.Reason != "EndpointsLost" || got.Late.Outcome != heal.Failed) {
			t.Errorf("%s: ends as %+v when the time is over", tt.name, got.Late)
		}
	}
}
