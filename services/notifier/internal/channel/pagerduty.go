package channel

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/PagerDuty/go-pagerduty"
	"golang.org/x/time/rate"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/outbound"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/story"
	"github.com/selfheal/selfheal/services/notifier/internal/talk"
)

// pagerDuty wakes people by PagerDuty's Events API v2
// (https://developer.pagerduty.com/docs/events-api-v2/overview/). All events of
// an incident have its id as their dedup_key, so one that comes twice, or a
// second attempt that fails too, rings nobody's phone again.
//
// An alert is triggered when there is something to see, acknowledged when we
// act, and resolved when it is seen to be over. As PagerDuty notifies nobody of
// what happens to an acknowledged alert, a failure after that is an alert of
// its own, for a person, which is resolved together with the first.
type pagerDuty struct {
	*poster
	changes    *poster
	routingKey config.Secret
}

// pagerDutyPace is how many events per second are sent for one routing key; of
// more than that for a minute PagerDuty refuses some.
const pagerDutyPace = rate.Limit(2)

func openPagerDuty(o options) (*Line, error) {
	if !o.PagerDutyEnabled {
		return nil, nil
	}
	if n := len(o.PagerDutyRoutingKey.Reveal()); n != 32 {
		return nil, fmt.Errorf("pagerduty_routing_key: want 32 characters, got %d", n)
	}
	api := strings.TrimSuffix(strings.TrimRight(o.PagerDutyAPIURL, "/"), "/v2/enqueue") // some write the whole of it
	if whole, err := url.JoinPath(api, "v2", "enqueue"); err == nil {
		api = whole
	}
	p, err := newPoster("pagerduty_api_url", config.Secret(api), o.timeout)
	if err != nil {
		return nil, err
	}
	changes, err := newPoster("pagerduty_api_url", config.Secret(strings.TrimSuffix(api, "enqueue")+"change/enqueue"), o.timeout)
	if err != nil {
		return nil, err
	}
	for _, each := range []*poster{p, changes} {
		each.secrets = append(each.secrets, o.PagerDutyRoutingKey.Reveal())
		each.pace = rate.NewLimiter(pagerDutyPace, 1)
		if slices.Contains([]string{"events.pagerduty.com", "events.eu.pagerduty.com"}, p.url.Hostname()) {
			each.limit(outbound.Public)
		}
	}
	changes.pace = p.pace // both are for one key
	return &Line{Channel: pagerDuty{p, changes, o.PagerDutyRoutingKey}, Listeners: []route.Listener{
		{Audience: route.OnCall, Edits: true}, {To: changesPlace, Audience: route.Changes},
	}}, nil
}

// changesPlace is where what was done to the cluster is logged.
const changesPlace = "changes"

// What is remembered of an alert.
const (
	alertOpen   Ref = "open"
	alertAcked  Ref = "acknowledged"
	alertDoubt  Ref = "acknowledging" // nobody knows whether it came to that
	alertPerson Ref = "person"        // a second one was opened
)

// Tell implements talker.
func (p pagerDuty) Tell(ctx context.Context, n heal.Notification, before Ref) (Ref, error) {
	if n.To == changesPlace {
		return before, p.Send(ctx, n)
	}
	steps, after := alertSteps(before, alertPhase(n), incidentKey(n.Conversation()))
	for _, s := range steps {
		if err := p.event(ctx, n, s.action, s.key); err != nil {
			return before, err // none of them does harm when it comes again
		}
	}
	return after, nil
}

// During implements talker. An alert that was acknowledged rings nobody.
func (p pagerDuty) During(n heal.Notification, before Ref) Ref {
	steps, _ := alertSteps(before, alertPhase(n), "")
	if slices.ContainsFunc(steps, func(s alertStep) bool { return s.action == pagerDutyAcknowledge }) {
		return alertDoubt
	}
	return before
}

func alertPhase(n heal.Notification) heal.Phase {
	if n.Digest != nil && n.Digest.Over {
		return heal.PhaseResolved
	}
	return n.Phase
}

// An alertStep is an event about one of an incident's alerts.
type alertStep struct{ action, key string }

// alertSteps are the events by which an incident's alerts come to where its
// phase wants them. Each alert is triggered once, and once more when it is given
// up: whoever closed it by hand is to hear of that.
func alertSteps(before Ref, phase heal.Phase, key string) (steps []alertStep, after Ref) {
	first, person := alertStep{pagerDutyTrigger, key}, alertStep{pagerDutyTrigger, personKey(key)}
	acked := before == alertAcked || before == alertDoubt
	switch {
	case phase.Over():
		steps = []alertStep{{pagerDutyResolve, key}}
		if acked || before == alertPerson { // it may have been opened, and we died before noting so
			steps = append(steps, alertStep{pagerDutyResolve, personKey(key)})
		}
		return steps, ""
	case phase == heal.PhaseActing && (before == alertPerson || before == alertAcked):
		return nil, before // somebody is on it, or we are
	case phase == heal.PhaseActing:
		if before != alertOpen {
			steps = append(steps, first)
		}
		return append(steps, alertStep{pagerDutyAcknowledge, key}), alertAcked
	case acked, before == alertPerson && phase == heal.PhaseGivenUp:
		return []alertStep{person}, alertPerson
	case before == alertPerson, before == alertOpen && phase != heal.PhaseGivenUp:
		return nil, before
	}
	return []alertStep{first}, alertOpen
}

// personKey is of the alert for a person, after what we did did not help.
func personKey(key string) string { return incidentKey(key + "-person") }

// Send implements Channel. The request is our own rather than the library's
// client's: that shows the answer, in which our routing key may stand, in its
// errors, and loses how long we were asked to wait.
func (p pagerDuty) Send(ctx context.Context, n heal.Notification) error {
	if n.To == changesPlace {
		return sendJSON(ctx, p.changes, renderChange(n, p.routingKey.Reveal()))
	}
	return sendJSON(ctx, p.poster, renderPagerDuty(n, p.routingKey.Reveal()))
}

// event sends n as one event of a kind.
func (p pagerDuty) event(ctx context.Context, n heal.Notification, action, key string) error {
	e := renderPagerDuty(n, p.routingKey.Reveal())
	e.Action, e.DedupKey = action, key
	if action != pagerDutyTrigger {
		e.Payload, e.Links, e.Client = nil, nil, "" // only a trigger has them
	}
	return sendJSON(ctx, p.poster, e)
}

func sendJSON(ctx context.Context, p *poster, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return permanent("%s: %s", p.setting, err)
	}
	return p.post(ctx, http.Header{"Content-Type": {"application/json"}}, body)
}

// A change is a change event
// (https://developer.pagerduty.com/docs/events-api-v2/send-change-events/).
type change struct {
	RoutingKey string              `json:"routing_key"`
	Payload    changePayload       `json:"payload"`
	Links      []map[string]string `json:"links,omitempty"`
}

type changePayload struct {
	Summary   string         `json:"summary"`
	Source    string         `json:"source"`
	Timestamp string         `json:"timestamp"`
	Details   map[string]any `json:"custom_details"`
}

// renderChange writes what was done to the cluster.
func renderChange(n heal.Notification, routingKey string) change {
	e := renderPagerDuty(n, routingKey)
	return change{RoutingKey: routingKey, Links: toText(e.Links), Payload: changePayload{
		Summary: e.Payload.Summary, Source: e.Payload.Source, Timestamp: n.Result.StartedAt.UTC().Format(time.RFC3339Nano),
		Details: map[string]any{"incident": e.DedupKey, "strategy": string(n.Result.Decision.Strategy), "outcome": string(n.Result.Outcome)},
	}}
}

func toText(links []any) []map[string]string {
	var all []map[string]string
	for _, l := range links {
		if m, ok := l.(map[string]string); ok {
			all = append(all, m)
		}
	}
	return all
}

// The event actions.
const (
	pagerDutyTrigger     = "trigger"
	pagerDutyAcknowledge = "acknowledge"
	pagerDutyResolve     = "resolve"
)

// pagerDutyAction is what becomes of the alert. Only what was seen on the live
// cluster ends it. What we did without such proof acknowledges it. All else
// that is told to the person on call is trouble that we did not end, so it
// needs a person, also where we did nothing on purpose.
//
// A recovery that is only under way acknowledges nothing: PagerDuty notifies
// nobody of an acknowledged alert, so its failure would go unheard.
func pagerDutyAction(r heal.Result) string {
	switch {
	case talk.Proven(r):
		return pagerDutyResolve
	case r.Outcome == heal.Succeeded:
		return pagerDutyAcknowledge
	}
	return pagerDutyTrigger
}

// PagerDuty's limits in characters (https://developer.pagerduty.com/docs/events-api-v2/trigger-events/),
// and ours where it names none.
const (
	pagerDutySummary = 1024
	pagerDutyField   = 255
	pagerDutyLinks   = 10
)

// pagerDutySeverity are PagerDuty's words for ours.
var pagerDutySeverity = map[heal.Severity]string{heal.Low: "info", heal.Medium: "warning", heal.High: "error", heal.Critical: "critical"}

// renderPagerDuty writes a notification as an event. PagerDuty shows text as it
// is, but makes links of what looks like one.
func renderPagerDuty(n heal.Notification, routingKey string) pagerduty.V2Event {
	s := story.Of(n).Map(unlink)
	f := failureOf(n)
	affected := f.Affected()
	summary, source := s.Headline, f.Target.String()
	if n.Digest != nil {
		source, affected = heal.Product, heal.Target{Kind: "Digest", Name: n.Digest.Kind}
	}
	if s.Cluster != "" {
		summary, source = summary+" ("+s.Cluster+")", s.Cluster+"/"+source
	}
	e := pagerduty.V2Event{
		RoutingKey: routingKey,
		Action:     pagerDutyAction(n.Result),
		DedupKey:   incidentKey(n.Conversation()),
		Client:     heal.Product,
		Payload: &pagerduty.V2Payload{
			Summary:   clip(summary, pagerDutySummary),
			Source:    clip(source, pagerDutyField),
			Severity:  pagerDutySeverity[n.Severity],
			Timestamp: cmp.Or(f.Timestamp.Time, n.Origin.Time, time.Unix(0, 0)).UTC().Format(time.RFC3339Nano),
			Component: clip(affected.Kind+"/"+affected.Name, pagerDutyField),
			Group:     clip(affected.Namespace, pagerDutyField),
			Class:     clip(string(f.Type)+"/"+unlink(heal.Clean(f.Reason, heal.MaxText)), pagerDutyField),
			Details:   pagerDutyDetails(s),
		},
	}
	for _, l := range s.Links[:min(len(s.Links), pagerDutyLinks)] {
		e.Links = append(e.Links, map[string]string{"href": l.URL, "text": l.Name})
	}
	return e
}

// pagerDutyDetails is the story, which PagerDuty shows as a table.
func pagerDutyDetails(s story.Story) map[string]any {
	details := map[string]any{"What happened": s.Happened}
	if s.Ended != "" {
		details["What came of it"] = s.Ended
	}
	for _, f := range append(slices.Clone(s.Facts), s.IDs...) {
		details[f.Name] = f.Value
	}
	for _, c := range s.Chapters {
		details[c.Title] = c.Lines
	}
	return details
}

// failureOf is the failure that n is about; a digest is about none.
func failureOf(n heal.Notification) heal.Failure {
	if n.Failure != nil {
		return *n.Failure
	}
	return n.About().Failure
}
