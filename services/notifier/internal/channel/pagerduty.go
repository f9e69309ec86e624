package channel

import (
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
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/story"
)

// pagerDuty wakes people by PagerDuty's Events API v2
// (https://developer.pagerduty.com/docs/events-api-v2/overview/). All events of
// an incident have its id as their dedup_key, so one that comes twice, or a
// second attempt that fails too, rings nobody's phone again.
type pagerDuty struct {
	*poster
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
	p.secrets = append(p.secrets, o.PagerDutyRoutingKey.Reveal())
	p.pace = rate.NewLimiter(pagerDutyPace, 1)
	if slices.Contains([]string{"events.pagerduty.com", "events.eu.pagerduty.com"}, p.url.Hostname()) {
		p.limit(public)
	}
	return &Line{Channel: pagerDuty{p, o.PagerDutyRoutingKey}, Listeners: []route.Listener{{Audience: route.OnCall}}}, nil
}

// Send implements Channel. The request is our own rather than the library's
// client's: that shows the answer, in which our routing key may stand, in its
// errors, and loses how long we were asked to wait.
func (p pagerDuty) Send(ctx context.Context, n heal.Notification) error {
	body, err := json.Marshal(renderPagerDuty(n, p.routingKey.Reveal()))
	if err != nil {
		return permanent("pagerduty: %s", err)
	}
	return p.post(ctx, http.Header{"Content-Type": {"application/json"}}, body)
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
	case proven(r):
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
	d := n.Result.Decision
	affected := d.Failure.Affected()
	summary, source := s.Headline, d.Failure.Target.String()
	if s.Cluster != "" {
		summary, source = summary+" ("+s.Cluster+")", s.Cluster+"/"+source
	}
	e := pagerduty.V2Event{
		RoutingKey: routingKey,
		Action:     pagerDutyAction(n.Result),
		DedupKey:   incidentKey(d.IncidentID),
		Client:     heal.Product,
		Payload: &pagerduty.V2Payload{
			Summary:   clip(summary, pagerDutySummary),
			Source:    clip(source, pagerDutyField),
			Severity:  pagerDutySeverity[n.Severity],
			Timestamp: d.Failure.Timestamp.UTC().Format(time.RFC3339Nano),
			Component: clip(affected.Kind+"/"+affected.Name, pagerDutyField),
			Group:     clip(affected.Namespace, pagerDutyField),
			Class:     clip(string(d.Type)+"/"+unlink(heal.Clean(d.Failure.Reason, heal.MaxText)), pagerDutyField),
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
