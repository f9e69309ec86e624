package notifier

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/selfheal/selfheal/pkg/bus"
	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/channel"
	"github.com/selfheal/selfheal/services/notifier/internal/double"
	"github.com/selfheal/selfheal/services/notifier/internal/sample"
)

// talking has Slack by a bot, and PagerDuty.
func talking(slack *double.Slack, pager *double.PagerDuty) func(*Config) {
	return func(c *Config) {
		s := &c.Settings
		s.SlackAPIURL, s.SlackBotToken, s.SlackAppToken, s.SlackApprovers = slack.URL, double.Token, double.AppToken, []string{"U0ANNA00"}
		s.PagerDutyEnabled, s.PagerDutyAPIURL, s.PagerDutyRoutingKey = true, pager.URL, double.RoutingKey
		c.Sweep = 200 * time.Millisecond
	}
}

func publish[T heal.Payload](t testing.TB, r *run, topic bus.Topic[T], data T) {
	t.Helper()
	if err := topic.Publish(t.Context(), r.bus, data); err != nil {
		t.Fatal(err)
	}
}

// critical is a failure of a kind that wakes somebody, as decided.
func critical(name string) heal.Decision { return sample.At(heal.Critical, name).Decision }

func ended(d heal.Decision, outcome heal.Outcome) heal.Result {
	r := sample.Healed()
	r.Decision, r.Outcome = d, outcome
	if outcome != heal.Succeeded {
		r.Reason, r.Message, r.Verification = "EvictionRefused", "the disruption budget allows no eviction", nil
	}
	return r
}

// next is the decision about the next announcement of d's failure.
func nextOf(d heal.Decision) heal.Decision {
	d.Failure.Occurrence++
	d.ID = heal.MakeDecisionID(d.Failure)
	return d
}

func gone(d heal.Decision) heal.Failure {
	f := d.Failure
	f.ResolvedAt = sample.Noon.Add(2 * time.Minute)
	return f
}

func TestAnIncidentIsOneMessageThatMovesToItsEnd(t *testing.T) {
	t.Parallel()
	slack, pager := double.NewSlack(t, 0), double.NewPagerDuty(t)
	first := critical("one")
	file := t.TempDir() + "/policy.yaml"
	writeFile(t, file, "group: {settle: 300ms}")
	soon := func(c *Config) { talking(slack, pager)(c); c.Settings.NotifyPolicyFile = file }
	r := start(t, soon)
	shows := func(want string, buttons ...string) {
		t.Helper()
		until(t, want, func() bool {
			posts := slack.Posts("#incidents")
			return len(posts) == 1 && strings.Contains(posts[0].Headline, want)
		})
		if diff := cmp.Diff(buttons, slack.Posts("#incidents")[0].Buttons); diff != "" {
			t.Errorf("%s: buttons (-want +got):\n%s", want, diff)
		}
	}
	pages := func(want ...string) {
		t.Helper()
		until(t, fmt.Sprint(want), func() bool { return slices.Equal(pager.Events(first.IncidentID), want) })
	}
	publish(t, r, bus.Decisions, first)
	shows("recreate under way", "pause", "explain")
	pages("trigger", "acknowledge")

	publish(t, r, bus.Results, ended(first, heal.Failed))
	shows("recreate failed", "pause", "explain")
	pages("trigger", "acknowledge", "trigger-person")

	given := nextOf(first)
	given.Reason, given.Strategy = heal.ReasonGivenUp, heal.Monitor
	publish(t, r, bus.Decisions, given)
	shows("given up", "pause", "explain")
	again := nextOf(given)
	publish(t, r, bus.Decisions, again) // announced again, which is no news
	refused := ended(again, heal.Rejected)
	refused.Reason = heal.ReasonGivenUp
	publish(t, r, bus.Results, refused)

	r.stop() // what it knows outlives it
	r.metrics = prometheus.NewRegistry()
	r.again(t, soon)
	publish(t, r, bus.Failures, gone(first))
	shows("over after 2m0s")
	until(t, "both alerts resolved", func() bool {
		state, _, _ := pager.Alerts()
		return state[first.IncidentID] == "resolve" && state[first.IncidentID+"-person"] == "resolve"
	})
	replies := slack.Replies(slack.Posts("#incidents")[0].TS)
	if n := len(slices.DeleteFunc(slices.Clone(replies), func(s string) bool { return !strings.Contains(s, "given up") })); n != 1 {
		t.Errorf("given up was told %d times in the thread: %q", n, replies)
	}
	if w := append(slack.Wrong(), pager.Wrong()...); len(w) > 0 {
		t.Errorf("refused: %q", w)
	}
	if strings.Contains(r.log.String(), "CANARY") {
		t.Error("the log shows a secret")
	}
}

func TestAHealedIncidentEndsItsPageAndADisruptiveOneIsLogged(t *testing.T) {
	t.Parallel()
	slack, pager := double.NewSlack(t, 0), double.NewPagerDuty(t)
	r := start(t, talking(slack, pager))
	d := critical("healed")
	d.Strategy = heal.DrainAndReplace
	publish(t, r, bus.Decisions, d)
	publish(t, r, bus.Results, ended(d, heal.Succeeded))
	until(t, "resolved", func() bool {
		state, _, _ := pager.Alerts()
		return state[d.IncidentID] == "resolve" || len(pager.Events(d.IncidentID)) == 1
	})
	until(t, "logged", func() bool { return len(pager.Changes()) == 1 })
	publish(t, r, bus.Failures, gone(d)) // nobody need be told that
	until(t, "edited", func() bool {
		posts := slack.Posts("#incidents")
		return len(posts) == 1 && strings.Contains(posts[0].Headline, "healed by drain and replace")
	})
}

// A page must not stay open because its end was heard before its beginning.
func TestAnEndThatComesFirstEndsWhatFollows(t *testing.T) {
	t.Parallel()
	slack, pager := double.NewSlack(t, 0), double.NewPagerDuty(t)
	r := start(t, talking(slack, pager))
	early := critical("early")
	publish(t, r, bus.Failures, gone(early))
	until(t, "heard", func() bool { return r.remembers(t, early.IncidentID) })
	publish(t, r, bus.Decisions, early)
	late := critical("late")
	publish(t, r, bus.Decisions, late)
	until(t, "the other one rings", func() bool { return len(pager.Events(late.IncidentID)) == 2 })
	if events := pager.Events(early.IncidentID); len(events) != 0 {
		t.Errorf("rang for what is over: %q", events)
	}
}

// The page of an incident lasts until the last thing that belongs to it is over.
func TestAnIncidentOfSeveralPodsEndsWithTheLast(t *testing.T) {
	t.Parallel()
	slack, pager := double.NewSlack(t, 0), double.NewPagerDuty(t)
	r := start(t, talking(slack, pager))
	root, follower := critical("root"), critical("follower")
	follower.IncidentID = root.IncidentID
	publish(t, r, bus.Decisions, root)
	publish(t, r, bus.Decisions, follower)
	until(t, "rings", func() bool { return len(pager.Events(root.IncidentID)) >= 2 })
	publish(t, r, bus.Failures, gone(root))
	until(t, "heard", func() bool { return r.closed(t, root.IncidentID) == 1 })
	if state, _, _ := pager.Alerts(); state[root.IncidentID] != "acknowledge" {
		t.Errorf("the alert is %s, want it to last", state[root.IncidentID])
	}
	publish(t, r, bus.Failures, gone(follower))
	until(t, "resolved", func() bool { state, _, _ := pager.Alerts(); return state[root.IncidentID] == "resolve" })
}

func (r *run) remembers(t *testing.T, incident string) bool {
	t.Helper()
	d := newDesk(r.bus, nil, metrics{}, defaultPolicy(t), nil)
	_, _, err := d.talks.Get(t.Context(), incidentKey(incident))
	return err == nil
}

func (r *run) closed(t *testing.T, incident string) int {
	t.Helper()
	i, _, _ := newDesk(r.bus, nil, metrics{}, defaultPolicy(t), nil).talks.Get(t.Context(), incidentKey(incident))
	return len(i.Gone)
}

func TestPeopleOfTheListApproveByAButtonAndNobodyElse(t *testing.T) {
	t.Parallel()
	slack, pager := double.NewSlack(t, 0), double.NewPagerDuty(t)
	r := start(t, talking(slack, pager))
	<-slack.Opened()
	approvals := make(chan bus.Message[heal.Approval], 8)
	go func() {
		_ = bus.Approvals.Consume(t.Context(), r.bus, bus.Consumer{Name: "actuator-approvals"}, func(_ context.Context, m bus.Message[heal.Approval]) error {
			approvals <- m
			return nil
		})
	}()
	d := critical("asked")
	d.Mode, d.Expires = heal.ModeApprove, time.Now().Add(time.Minute)
	publish(t, r, bus.Decisions, d)
	until(t, "asked", func() bool { return len(slack.Posts("#incidents")) == 1 })
	post := slack.Posts("#incidents")[0]
	if diff := cmp.Diff([]string{"approve", "reject", "pause", "explain"}, post.Buttons); diff != "" {
		t.Fatalf("buttons (-want +got):\n%s", diff)
	}
	press := func(user, action, want string, p double.Post) {
		t.Helper()
		before := len(slack.Replies(post.TS))
		if err := slack.Press(user, action, p); err != nil {
			t.Fatal(err)
		}
		until(t, action+" by "+user, func() bool { return len(slack.Replies(post.TS)) > before })
		if said := slack.Replies(post.TS)[before]; !strings.Contains(said, want) {
			t.Errorf("%s by %s: said %q, want %q", action, user, said, want)
		}
	}
	press("U0EVE000", channel.Approve, "Only people of slack\u02cdapprovers", post)
	forged := post
	forged.Value = d.IncidentID + " d-another"
	press("U0ANNA00", channel.Approve, "does not wait", forged)
	press("U0ANNA00", channel.Explain, "base severity of pod", post)
	press("U0ANNA00", channel.Approve, "Approved by slack:U0ANNA00", post)
	m := <-approvals
	if m.Data.DecisionID != d.ID || !m.Data.Approved || m.Data.By != "slack:U0ANNA00" {
		t.Errorf("approval: %+v", m.Data)
	}
	slack.Drop()
	<-slack.Opened() // it dials again
	press("U0ANNA00", channel.Reject, "Rejected by", post)
	if m := <-approvals; m.Data.Approved {
		t.Errorf("approval: %+v", m.Data)
	}
	press("U0ANNA00", channel.PauseIt, "Nothing is changed any more", post)
	if len(approvals) != 0 {
		t.Error("more approvals than presses that count")
	}
	if strings.Contains(r.log.String(), "CANARY") {
		t.Error("the log shows a secret")
	}
}

func TestASilenceKeepsPeopleQuietUntilItEnds(t *testing.T) {
	t.Parallel()
	slack, pager := double.NewSlack(t, 0), double.NewPagerDuty(t)
	r := start(t, talking(slack, pager))
	until(t, "listening", func() bool { return r.listens() == nil })
	now := time.Now().UTC()
	s := heal.Silence{Match: heal.Match{Namespaces: []string{"shop"}}, By: "anna", Reason: "the database moves", At: now, Until: now.Add(time.Hour)}
	s.ID = heal.MakeSilenceID(s)
	silences := bus.NewStore[heal.Silence](r.bus, bus.SilencesBucket)
	rev, err := silences.Create(t.Context(), s.ID, s)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "the silence is heard of", func() bool { return strings.Contains(r.log.String(), "silence begins") })
	lasting, ending := critical("lasting"), critical("ending")
	publish(t, r, bus.Results, ended(ending, heal.Failed))
	publish(t, r, bus.Failures, gone(ending))
	publish(t, r, bus.Results, ended(lasting, heal.Failed))
	until(t, "kept back", func() bool { return r.remembers(t, lasting.IncidentID) && r.closed(t, ending.IncidentID) == 1 })
	if _, rang, _ := pager.Alerts(); len(rang) != 0 {
		t.Errorf("rang in spite of the silence: %v", rang)
	}
	if err := silences.Delete(t.Context(), s.ID, rev); err != nil {
		t.Fatal(err)
	}
	until(t, "what lasts is told", func() bool { return len(pager.Events(lasting.IncidentID)) == 1 && len(slack.Posts("#incidents")) == 1 })
	if events := pager.Events(ending.IncidentID); slices.Contains(events, "trigger") {
		t.Errorf("told after it was over: %q", events)
	}
}

// What the watcher says of the owner decides who hears, and what they read.
func TestTheOwnersTeamRunbookAndLabelsSayWhoIsToldAndWhat(t *testing.T) {
	t.Parallel()
	slack, pager := double.NewSlack(t, 0), double.NewPagerDuty(t)
	file := t.TempDir() + "/policy.yaml"
	writeFile(t, file, `
routes:
  - match: {team: [payments], labels: {tier: "gold*"}}
    to: ["slack:#payments", pagerduty]
  - match: {team: [payments]}
    to: ["slack:#payments-later"]
links:
  runbook_hosts: [runbooks.example.com]
  dashboard: https://grafana.example.com/d/heal?var-namespace={namespace}&var-name={name}
templates:
  headline: "{{.Object}} of {{.Team}}"
  note: "{{with .Team}}{{.}} owns it.{{end}}"
`)
	r := start(t, func(c *Config) { talking(slack, pager)(c); c.Settings.NotifyPolicyFile = file })
	gold, silver, nobodys := critical("gold"), critical("silver"), critical("nobody's")
	said := func(tier, runbook string) map[string]string {
		return map[string]string{heal.MetadataTeam: "payments", heal.MetadataRunbook: runbook, heal.MetadataLabel + "tier": tier}
	}
	gold.Failure.Metadata = said("gold-plus", "https://runbooks.example.com/checkout?a=b&c=d")
	silver.Failure.Metadata = said("silver", "https://evil.example/checkout")
	for _, d := range []heal.Decision{gold, silver, nobodys} {
		publish(t, r, bus.Results, ended(d, heal.Failed))
	}
	for to, d := range map[string]heal.Decision{"#payments": gold, "#payments-later": silver, "#incidents": nobodys} {
		until(t, to+" is told", func() bool { return len(slack.Posts(to)) == 1 })
		if got := slack.Posts(to)[0].Conversation; got != d.IncidentID {
			t.Errorf("%s is told of %s, want %s", to, got, d.IncidentID)
		}
	}
	post := slack.Posts("#payments")[0]
	for _, want := range []string{
		"shop/Deployment/checkout of payments", "payments owns it.",
		`\u003chttps://runbooks.example.com/checkout?a=b\u0026amp;c=d|runbook\u003e`,
		`\u003chttps://grafana.example.com/d/heal?var-namespace=shop\u0026amp;var-name=checkout|dashboard\u003e`,
	} {
		if !strings.Contains(post.Body, want) {
			t.Errorf("%q is missing in\n%s", want, post.Body)
		}
	}
	if body := slack.Posts("#payments-later")[0].Body; strings.Contains(body, "evil.example") {
		t.Errorf("it leads where anybody may say:\n%s", body)
	}
	until(t, "only the first and the last ring", func() bool {
		_, rang, _ := pager.Alerts()
		return len(rang) == 2 && rang[gold.IncidentID] == 1 && rang[nobodys.IncidentID] == 1
	})
}

// Whether people's presses are heard is said once when it changes, and shown.
func TestThatButtonsAreNotHeardIsSaidAndShown(t *testing.T) {
	t.Parallel()
	slack, pager := double.NewSlack(t, 0), double.NewPagerDuty(t)
	slack.Answer(func(method string, w http.ResponseWriter) bool {
		if method != "apps.connections.open" {
			return false
		}
		_, _ = io.WriteString(w, `{"ok":false,"error":"internal_error"}`)
		return true
	})
	r := start(t, talking(slack, pager))
	gauge := func(want float64) func() bool {
		return func() bool {
			return testutil.CollectAndCompare(r.metrics, strings.NewReader(fmt.Sprintf(`
# HELP self_healing_notification_buttons_connected 1 while presses of the channel's buttons are heard, 0 while it cannot be reached for them.
# TYPE self_healing_notification_buttons_connected gauge
self_healing_notification_buttons_connected{channel="slack"} %g
`, want)), "self_healing_notification_buttons_connected") == nil
		}
	}
	until(t, "said", func() bool { return strings.Contains(r.log.String(), "buttons are not heard") })
	if said := r.status()["slack_buttons"]; said != "not connected: slack_app_token: 127.0.0.1 answered apps.connections.open: internal_error" || !gauge(0)() {
		t.Errorf("shown: %v", said)
	}
	until(t, "ready without buttons", func() bool { return r.listens() == nil })
	slack.Answer(nil)
	<-slack.Opened()
	until(t, "shown to be heard", func() bool { return r.status()["slack_buttons"] == "connected" && gauge(1)() })
	for line, want := range map[string]int{"buttons are not heard": 1, "buttons are heard": 1} {
		if n := strings.Count(r.log.String(), line); n != want {
			t.Errorf("logged %d times: %s", n, line)
		}
	}
}

func TestPlacesThatThePolicyNamesMustExist(t *testing.T) {
	file := t.TempDir() + "/policy.yaml"
	writeFile(t, file, "routes: [{to: ['slack:#nowhere']}]")
	slack := newDouble(t, nil)
	err := Run(t.Context(), Config{Settings: config.Settings{
		NotifyPolicyFile: file, SlackChannel: "#monitoring", SlackIncidentChannel: "#incidents", SlackWebhookURL: config.Secret(slack.url),
	}}, Deps{})
	if err == nil || !strings.Contains(err.Error(), `routes[0].to[0]: "slack:#nowhere" is not a place`) || strings.Contains(err.Error(), "CANARY") {
		t.Errorf("got %v", err)
	}
}

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
