package route_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
	"github.com/selfheal/selfheal/services/notifier/internal/talk"
)

var everybody = []route.Listener{
	{Channel: "slack", To: "#monitoring", Audience: route.Monitoring},
	{Channel: "slack", To: "#incidents", Audience: route.Incident},
	{Channel: "email", Audience: route.Incident},
	{Channel: "pagerduty", Audience: route.OnCall},
	{Channel: "webhook", Audience: route.Record},
}

func names(listeners []route.Listener) []string {
	var all []string
	for _, l := range listeners {
		all = append(all, l.Channel+l.To)
	}
	return all
}

func policy(t *testing.T, text string) route.Policy {
	t.Helper()
	p, err := route.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// noon is a Sunday.
var noon = sample.Noon

// ends is a result told to nobody before.
func ends(r heal.Result, age time.Duration) route.Case {
	now := noon.Add(time.Minute)
	news := talk.News{ID: "r-1", At: now, Result: &r}
	i, worth := talk.Incident{ID: r.Decision.IncidentID}.Hear(news)
	return route.Case{Incident: i, News: news, Worth: worth, Stored: now.Add(-age), Now: now}
}

func courses(p route.Policy, all []route.Listener, c route.Case) map[route.Course][]string {
	by := map[route.Course][]route.Listener{}
	for _, l := range all {
		if course := p.Decide(l, all, c); course != route.Not {
			by[course] = append(by[course], l)
		}
	}
	got := map[route.Course][]string{}
	for course, some := range by {
		got[course] = names(some)
	}
	return got
}

func TestResultsGoWhereTheContractSays(t *testing.T) {
	moot := sample.At(heal.Critical, "moot")
	moot.Outcome, moot.Reason, moot.Verification = heal.Skipped, heal.ReasonRecovered, nil
	type want = map[route.Course][]string
	for name, test := range map[string]struct {
		listeners []route.Listener
		result    heal.Result
		age       time.Duration
		want      want
	}{
		"low":      {everybody, sample.At(heal.Low, "a"), 0, want{route.Tell: {"slack#monitoring", "webhook"}}},
		"medium":   {everybody, sample.At(heal.Medium, "a"), 0, want{route.Tell: {"slack#monitoring", "webhook"}}},
		"high":     {everybody, sample.At(heal.High, "a"), 0, want{route.Tell: {"slack#incidents", "email", "webhook"}}},
		"critical": {everybody, sample.At(heal.Critical, "a"), 0, want{route.Tell: {"slack#incidents", "email", "pagerduty", "webhook"}}},

		"not worth telling": {everybody, moot, 0, want{route.Tell: {"webhook"}, route.Spare: {"slack#incidents", "email", "pagerduty"}}},
		"watched":           {everybody, sample.Watched(), 0, want{route.Tell: {"slack#monitoring", "webhook"}}},
		"a day old":         {everybody, sample.Healed(), 24 * time.Hour, want{route.Tell: {"slack#incidents", "email", "webhook"}}},
		"older":             {everybody, sample.Healed(), 24*time.Hour + 1, want{route.Tell: {"webhook"}, route.Spare: {"slack#incidents", "email"}}},
		"only slack":        {everybody[:2], sample.Healed(), 0, want{route.Tell: {"slack#incidents"}}},
		"nobody":            {nil, sample.Healed(), 0, want{}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, courses(policy(t, ""), test.listeners, ends(test.result, test.age))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestThePolicyMayRouteMuteAndHoldBack(t *testing.T) {
	shop := append(slices.Clone(everybody), route.Listener{Channel: "slack", To: "#shop", Audience: route.Routed, Edits: true})
	type want = map[route.Course][]string
	high := sample.At(heal.High, "a")
	team := high
	team.Decision.Failure.Metadata = map[string]string{heal.MetadataTeam: "payments", heal.MetadataLabel + "tier": "gold"}
	silenced := func(s heal.Silence) func(*route.Case) {
		return func(c *route.Case) { c.Silences = []heal.Silence{s} }
	}
	told := func(t talk.Told) func(*route.Case) {
		return func(c *route.Case) {
			t.At = c.Now.Add(-time.Minute)
			c.Incident.Told = map[string]talk.Told{"email ": t, "slack #incidents": t, "slack #shop": t}
		}
	}
	for name, test := range map[string]struct {
		policy string
		result heal.Result
		change func(*route.Case)
		want   want
	}{
		"by namespace":               {"routes: [{match: {namespace: [shop]}, to: ['slack:#shop']}]", high, nil, want{route.Tell: {"webhook", "slack#shop"}}},
		"by another namespace":       {"routes: [{match: {namespace: [bank]}, to: ['slack:#shop']}]", high, nil, want{route.Tell: {"slack#incidents", "email", "webhook"}}},
		"by team and label":          {"routes: [{match: {team: [payments], labels: {tier: gold}}, to: [pagerduty]}]", team, nil, want{route.Tell: {"pagerduty", "webhook"}}},
		"the first that fits":        {"routes: [{match: {severity: [high]}, to: [email]}, {to: ['slack:#shop']}]", high, nil, want{route.Tell: {"email", "webhook"}}},
		"and others when it says so": {"routes: [{match: {severity: [high]}, to: [email], continue: true}, {to: ['slack:#shop']}]", high, nil, want{route.Tell: {"email", "webhook", "slack#shop"}}},
		"to nobody":                  {"routes: [{match: {type: [pod_failure]}, to: []}]", high, nil, want{route.Tell: {"webhook"}}},
		"on sundays":                 {"routes: [{during: {days: [sun]}, to: [email]}]", high, nil, want{route.Tell: {"email", "webhook"}}},
		"not on sundays":             {"routes: [{during: {days: [mon, sat]}, to: [email]}]", high, nil, want{route.Tell: {"slack#incidents", "email", "webhook"}}},
		"at night elsewhere":         {"mute: [{during: {from: '21:00', until: '06:00', zone: Asia/Tokyo}, reason: night}]", high, nil, want{route.Tell: {"webhook"}, route.Silent: {"slack#incidents", "email"}}},
		"silenced": {"", high, silenced(heal.Silence{Match: heal.Match{Namespaces: []string{"sh*"}}, Until: noon.Add(time.Hour)}),
			want{route.Tell: {"webhook"}, route.Silent: {"slack#incidents", "email"}}},
		"silenced until before": {"", high, silenced(heal.Silence{Match: heal.Match{Namespaces: []string{"sh*"}}, Until: noon}),
			want{route.Tell: {"slack#incidents", "email", "webhook"}}},
		"low, once a day":                {"daily: {}", sample.At(heal.Low, "a"), nil, want{route.Tell: {"webhook"}, route.EachDay: {"slack#monitoring"}}},
		"the same again":                 {"", sample.Drained(), told(talk.Told{Seq: 1, Phase: heal.PhaseFailed}), want{route.Tell: {"pagerduty", "webhook", "slack#shop"}, route.Spare: {"slack#incidents", "email"}}},
		"the same now and then":          {"group: {interval: 5m}", sample.Drained(), told(talk.Told{Seq: 1, Phase: heal.PhaseFailed}), want{route.Tell: {"pagerduty", "webhook", "slack#shop"}, route.Keep: {"slack#incidents", "email"}}},
		"failed, of what they know":      {"", sample.Drained(), told(talk.Told{Seq: 1, Phase: heal.PhaseSeen}), want{route.Tell: {"pagerduty", "webhook", "slack#shop"}, route.Spare: {"slack#incidents", "email"}}},
		"failed, after an end":           {"", sample.Drained(), told(talk.Told{Seq: 1, Phase: heal.PhaseResolved}), want{route.Tell: {"slack#incidents", "email", "pagerduty", "webhook", "slack#shop"}}},
		"the end, after a silence":       {"", high, told(talk.Told{Seq: 1, Phase: heal.PhaseFailed, Kept: true}), want{route.Tell: {"slack#incidents", "email", "webhook", "slack#shop"}}},
		"the end, in spite of a silence": {"mute: [{during: {}, reason: always}]", high, told(talk.Told{Seq: 1, Phase: heal.PhaseFailed}), want{route.Tell: {"slack#incidents", "email", "webhook", "slack#shop"}}},
		"the end of what nobody knows":   {"", high, told(talk.Told{Kept: true}), want{route.Tell: {"webhook"}, route.Spare: {"slack#incidents", "email", "slack#shop"}}},
		"from before we began":           {"", high, func(c *route.Case) { c.Since = c.Now.Add(time.Second) }, want{route.Tell: {"webhook"}, route.Past: {"slack#incidents", "email"}}},
	} {
		t.Run(name, func(t *testing.T) {
			c := ends(test.result, 0)
			if test.change != nil {
				test.change(&c)
			}
			if diff := cmp.Diff(test.want, courses(policy(t, test.policy), shop, c)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestAWindowFollowsTheClockOnTheWall(t *testing.T) {
	berlin := route.Window{Days: []string{"fri"}, From: "22:00", Until: "06:00", Zone: "Europe/Berlin"}
	for at, want := range map[string]bool{
		"2026-11-20T21:00:00Z": true,  // Friday 22:00
		"2026-11-20T20:59:59Z": false, // a second before
		"2026-11-21T04:59:59Z": true,  // Saturday 05:59: the night of Friday
		"2026-11-21T05:00:00Z": false,
		"2026-11-21T21:30:00Z": false, // Saturday night
		"2026-07-17T20:00:00Z": true,  // in summer, an hour earlier
	} {
		now, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		if got := berlin.Holds(now); got != want {
			t.Errorf("%s: %t, want %t", at, got, want)
		}
	}
	if got := route.Last(noon, "mon", "09:00", "Europe/Berlin").UTC().Format(time.RFC3339); got != "2026-11-16T08:00:00Z" {
		t.Errorf("the last Monday: %s", got)
	}
}

func TestWhatIsWrongInAPolicyIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"rout: []":             `unknown field "rout"`,
		"routes: [{to: ['']}]": `routes[0].to[0]: "" is not a place`,
		"routes: [{match: {severity: [loud]}, to: [email]}]": `routes[0]: match.severity: "loud" is not known`,
		"mute: [{during: {from: '25:00'}, reason: x}]":       `mute[0].during: "25:00" is not a time of day`,
		"mute: [{during: {zone: Mars/Olympus}, reason: x}]":  `"Mars/Olympus" is not a time zone`,
		"mute: [{during: {}}]":                               "mute[0]: reason: is empty",
		"group: {interval: soon}":                            "want a duration",
		"storm: {above: 100000}":                             "above: want 1 to 1000",
		"daily: {severity: [critical]}":                      "critical cannot wait",
		"templates: {headline: '{{.Nothing}}'}":              "templates.headline: ",
		"links: {dashboard: 'http://x'}":                     "links: dashboard",
	} {
		if _, err := route.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want it to say %q", text, err, want)
		}
	}
}

func TestLinksLeadOnlyWhereTheOperatorSays(t *testing.T) {
	p := policy(t, "links: {runbook_hosts: [runbooks.example.com], dashboard: 'https://grafana.example.com/d/1?ns={namespace}&n={name}'}")
	f := sample.Failure()
	for runbook, want := range map[string]string{
		"https://runbooks.example.com/checkout":      "https://runbooks.example.com/checkout",
		"https://evil.example/checkout":              "",
		"https://runbooks.example.com.evil.example/": "",
		"https://a@runbooks.example.com/":            "",
		"http://runbooks.example.com/":               "",
		"javascript:alert(1)//runbooks.example.com":  "",
		"https://runbooks.example.com:8443/other":    "",
		"": "",
	} {
		f.Metadata = map[string]string{heal.MetadataRunbook: runbook}
		links := p.Links.For("i-1", f)
		if links["runbook"] != want || links["dashboard"] != "https://grafana.example.com/d/1?ns=shop&n=checkout" {
			t.Errorf("%q: %v", runbook, links)
		}
	}
}

func TestOfDecisionsOnlyThoseAreToldThatNoResultTellsBetter(t *testing.T) {
	decided := func(change func(*heal.Decision)) route.Case {
		d := sample.At(heal.Critical, "decided").Decision
		change(&d)
		news := talk.News{ID: "d-1", At: noon, Decision: &d}
		i, worth := talk.Incident{ID: d.IncidentID}.Hear(news)
		return route.Case{Incident: i, News: news, Worth: worth, Stored: noon, Now: noon.Add(time.Second)}
	}
	webhooks := []route.Listener{everybody[1], everybody[2]} // which cannot edit what they have said
	type want = map[route.Course][]string
	for name, test := range map[string]struct {
		change func(*heal.Decision)
		want   want
	}{
		"acts":  {func(*heal.Decision) {}, want{}},
		"waits": {func(d *heal.Decision) { d.Mode = heal.ModeApprove }, want{route.Tell: {"slack#incidents", "email"}}},
		"is the end of trying": {func(d *heal.Decision) { d.Strategy, d.Reason = heal.Monitor, heal.ReasonGivenUp },
			want{route.Tell: {"slack#incidents", "email"}}},
	} {
		if diff := cmp.Diff(test.want, courses(policy(t, ""), webhooks, decided(test.change))); diff != "" {
			t.Errorf("a decision that %s (-want +got):\n%s", name, diff)
		}
	}
}
