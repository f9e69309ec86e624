package gate_test

import (
	"testing"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/gate"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/talk"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// However many incidents there are, however quickly they come, and however
// critical: a storm is at most 20 messages to a place, the last says that it is
// over, and every incident is in one of them.
func TestAStormIsAtMostTwentyMessages(t *testing.T) {
	p, err := route.Parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		incidents, perSecond, critical int // each so many is critical
	}{
		"all at once":   {10_000, 10_000, 100},
		"for long":      {10_000, 2, 7},
		"all critical":  {5_000, 50, 1},
		"none critical": {5_000, 50, 10_000},
	} {
		g := gate.Gate{Channel: "slack", To: "#incidents"}
		messages, came, inDigest, lasting, over := 0, 0, 0, 0, false
		ends := map[time.Time]int{} // each incident lasts a minute
		for now := noon; !over && now.Before(noon.Add(48*time.Hour)); now = now.Add(time.Second) {
			for range min(tt.perSecond, tt.incidents-came) {
				came++
				var digest string
				if g, digest = g.Admit(p.Storm, came%tt.critical == 0, now); digest == "" {
					messages++
					continue
				}
				inDigest++
				lasting++
				ends[now.Add(time.Minute)]++
			}
			lasting -= ends[now]
			for _, d := range g.Digests {
				due, last := d.Due(p, false, lasting, now)
				if !due {
					continue
				}
				messages++
				over = last
				g = g.Told(d.ID, last, now)
			}
		}
		if messages > 20 || !over || inDigest == 0 || len(g.Digests) > 0 {
			t.Errorf("%s: %d messages, over %t, %d incidents in digests, %d digests left", name, messages, over, inDigest, len(g.Digests))
		}
	}
}

func TestFewMessagesPassAndTheNextStormIsAnotherDigest(t *testing.T) {
	p, err := route.Parse([]byte("storm: {above: 3, within: 1m, quiet: 5m}"))
	if err != nil {
		t.Fatal(err)
	}
	g, now := gate.Gate{}, noon
	admit := func(after time.Duration) (id string) {
		now = now.Add(after)
		g, id = g.Admit(p.Storm, false, now)
		return id
	}
	for range 20 {
		if id := admit(20 * time.Second); id != "" {
			t.Fatal("three a minute are no storm")
		}
	}
	for admit(time.Second) == "" {
	}
	first := admit(time.Minute)
	if admit(6*time.Minute) != "" {
		t.Error("after a pause it is no storm any more")
	}
	second := ""
	for second == "" {
		second = admit(time.Second)
	}
	if first == "" || first == second {
		t.Errorf("digests %q and %q", first, second)
	}
}

func TestADigestSaysHowManyAreLeftAndWhatTheyAre(t *testing.T) {
	member := func(reason string, s heal.Severity, phase heal.Phase) talk.Incident {
		return talk.Incident{Reason: reason, Severity: s, Phase: phase, Object: heal.Target{Kind: "Deployment", Namespace: "shop", Name: "cart"}}
	}
	d := gate.Digest{ID: "g-1", Kind: gate.Storm}
	all := []talk.Incident{member("CrashLoopBackOff", heal.High, heal.PhaseFailed), member("CrashLoopBackOff", heal.High, heal.PhaseResolved), member("OOMKilled", heal.Critical, heal.PhaseVerified)}
	got, severity := d.Write(all, false)
	if got.Total != 3 || got.Open != 1 || severity != heal.Critical || got.Lines[0] != "• 2 × high: CrashLoopBackOff in shop" {
		t.Errorf("%+v at %s", got, severity)
	}
	if got, _ := d.Write(all[1:], true); got.Title != "the storm is over: 2 incidents, none is left" {
		t.Errorf("at the end: %s", got.Title)
	}
}

func TestEachSortOfDigestIsToldInItsTime(t *testing.T) {
	p, err := route.Parse([]byte(`{daily: {at: "09:00", zone: Europe/Berlin}}`))
	if err != nil {
		t.Fatal(err)
	}
	since := noon // a Sunday, 13:00 in Berlin
	for _, tt := range []struct {
		name      string
		digest    gate.Digest
		edits     bool
		open      int
		after     time.Duration
		due, over bool
	}{
		{"what was before, while more of it comes", gate.Digest{Kind: gate.Start, Last: since.Add(5 * time.Second)}, false, 3, 20 * time.Second, false, true},
		{"what was before, when no more comes", gate.Digest{Kind: gate.Start, Last: since.Add(5 * time.Second)}, false, 3, 25 * time.Second, true, true},
		{"what was before, though more of it comes", gate.Digest{Kind: gate.Start, Last: since.Add(2 * time.Minute)}, false, 3, 2 * time.Minute, true, true},
		{"the day's, on the same day", gate.Digest{Kind: gate.Daily, Last: since}, false, 0, 18 * time.Hour, false, true},
		{"the day's, the next morning in Berlin", gate.Digest{Kind: gate.Daily, Last: since}, false, 0, 20 * time.Hour, true, true},
		{"a storm, at first", gate.Digest{Kind: gate.Storm, Last: since}, false, 9, 4 * time.Second, false, false},
		{"a storm, after a little", gate.Digest{Kind: gate.Storm, Last: since}, false, 9, 5 * time.Second, true, false},
		{"a storm that was told, where nothing can be changed", gate.Digest{Kind: gate.Storm, Last: since.Add(20 * time.Second), Sent: 1, Told: since.Add(5 * time.Second)}, false, 9, 30 * time.Second, false, false},
		{"a storm that was told, where it can", gate.Digest{Kind: gate.Storm, Last: since.Add(20 * time.Second), Sent: 1, Told: since.Add(5 * time.Second)}, true, 9, 30 * time.Second, true, false},
		{"a storm of which nothing is left", gate.Digest{Kind: gate.Storm, Last: since, Sent: 2, Told: since}, false, 0, 5 * time.Minute, true, true},
		{"a storm of which something is left", gate.Digest{Kind: gate.Storm, Last: since, Sent: 2, Told: since}, false, 1, 5 * time.Minute, false, false},
	} {
		tt.digest.Since = since
		if due, over := tt.digest.Due(p, tt.edits, tt.open, since.Add(tt.after)); due != tt.due || due && over != tt.over {
			t.Errorf("%s: due %t, over %t; want %t, %t", tt.name, due, over, tt.due, tt.over)
		}
	}
}

func TestWhatFailsAgainAndAgainIsNamedOnceAWeek(t *testing.T) {
	object := func(name string) heal.Target {
		return heal.Target{Kind: "Deployment", Namespace: "shop", Name: name}
	}
	var all []talk.Incident
	for i, name := range []string{"cart", "cart", "cart", "cart", "web", "web", "db", "db", "db"} {
		all = append(all, talk.Incident{Object: object(name), Reason: "OOMKilled", Phase: heal.PhaseVerified, Began: noon.Add(time.Duration(i) * time.Hour)})
	}
	all[0].Began = noon.Add(-time.Hour)                                                                     // the week before
	all = append(all, talk.Incident{Object: object("db"), Reason: "OOMKilled", Began: noon.Add(time.Hour)}) // of which nothing was worth telling
	got := gate.Offenders(all, noon, 3)
	if len(got.Lines) != 2 || got.Total != 6 || got.Lines[0] != "• 3 × shop/Deployment/cart: OOMKilled" || got.Lines[1] != "• 3 × shop/Deployment/db: OOMKilled" {
		t.Errorf("%+v", got)
	}
	if quiet := gate.Offenders(all, noon, 5); len(quiet.Lines) != 0 {
		t.Errorf("too little to name: %+v", quiet)
	}
}
