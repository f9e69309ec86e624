package channel

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/slack-go/slack"
	"golang.org/x/time/rate"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/outbound"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/story"
)

// slackHooks are Slack's incoming webhooks
// (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
// Each posts to the one channel that it was made for. They know no id and no
// edit: a message that comes twice stands there twice.
type slackHooks struct {
	monitoring, incident *poster // at least one
	incidentChannel      string
}

// slackPace is how many messages per second a webhook takes
// (https://docs.slack.dev/apis/web-api/rate-limits).
const slackPace = rate.Limit(1)

func openSlack(o options) (*Line, error) {
	if o.SlackBotToken != "" {
		return openSlackBot(o)
	}
	if o.SlackWebhookURL == "" && o.SlackIncidentWebhookURL == "" {
		return nil, nil
	}
	hooks := &slackHooks{incidentChannel: o.SlackIncidentChannel}
	line := &Line{Channel: hooks}
	var err error
	if o.SlackWebhookURL != "" {
		if hooks.monitoring, err = newSlackPoster("slack_webhook_url", o.SlackWebhookURL, o); err != nil {
			return nil, err
		}
		line.Listeners = append(line.Listeners, route.Listener{To: o.SlackChannel, Audience: route.Monitoring})
	} else {
		line.Warnings = append(line.Warnings, fmt.Sprintf("slack_webhook_url is not set: results of low and medium severity are not told in %s", o.SlackChannel))
	}
	if o.SlackIncidentWebhookURL != "" {
		if hooks.incident, err = newSlackPoster("slack_incident_webhook_url", o.SlackIncidentWebhookURL, o); err != nil {
			return nil, err
		}
	} else if o.SlackIncidentChannel != o.SlackChannel {
		line.Warnings = append(line.Warnings, fmt.Sprintf("slack_webhook_url serves %s and %s, but a webhook posts only to the channel it was made for: set slack_incident_webhook_url for %s",
			o.SlackChannel, o.SlackIncidentChannel, o.SlackIncidentChannel))
	}
	line.Listeners = append(line.Listeners, route.Listener{To: o.SlackIncidentChannel, Audience: route.Incident})
	return line, nil
}

// newSlackPoster refuses a host that is not Slack's: what is posted there is
// written for Slack, and a secret of the workspace is sent along.
func newSlackPoster(setting string, secret config.Secret, o options) (*poster, error) {
	p, err := newPoster(setting, secret, o.timeout)
	if err != nil {
		return nil, err
	}
	p.pace = rate.NewLimiter(slackPace, 1)
	allowed := []string{"hooks.slack.com", "hooks.slack-gov.com"}
	host := p.url.Hostname()
	if slices.Contains(allowed, host) {
		p.limit(outbound.Public)
		return p, nil
	}
	if api, err := url.Parse(o.SlackAPIURL); err == nil && !slices.Contains([]string{"", "slack.com"}, api.Hostname()) {
		allowed = append(allowed, api.Hostname()) // the operator's proxy
	}
	if !slices.Contains(allowed, host) && !outbound.Loopback(host) {
		return nil, fmt.Errorf("%s: host %q not in allowed hosts %v; for a proxy set slack_api_url too", setting, host, allowed)
	}
	return p, nil
}

// Send implements Channel.
func (s *slackHooks) Send(ctx context.Context, n heal.Notification) error {
	body, err := json.Marshal(renderSlack(n))
	if err != nil {
		return permanent("slack: %s", err)
	}
	hook := s.monitoring
	if hook == nil || s.incident != nil && n.To == s.incidentChannel {
		hook = s.incident
	}
	return hook.post(ctx, http.Header{"Content-Type": {"application/json; charset=utf-8"}}, body)
}

// Slack's limits (https://docs.slack.dev/reference/block-kit/blocks).
const (
	slackHeader  = 150
	slackSection = 3000
	slackField   = 2000
	slackFields  = 10
	slackBlocks  = 50
	slackText    = 3000 // longer ones are cut by Slack at some other place
)

// renderSlack writes a notification as a Block Kit message. Foreign text
// stands only in plain_text elements, where Slack acts upon nothing: no
// mention, no link, no markup, no emoji. The fallback, which phones show, has
// no such elements and is escaped.
func renderSlack(n heal.Notification) slack.WebhookMessage {
	s := story.Of(n)
	blocks := []slack.Block{slack.NewHeaderBlock(plain(s.Mark+" "+s.Headline, slackHeader))}
	section := func(lines ...string) {
		if text := strings.TrimSpace(strings.Join(lines, "\n")); text != "" {
			blocks = append(blocks, slack.NewSectionBlock(plain(text, slackSection), nil, nil))
		}
	}
	section(s.Happened, s.Ended)
	var fields []*slack.TextBlockObject
	for _, f := range s.Facts {
		fields = append(fields, plain(f.Name+"\n"+f.Value, slackField))
	}
	blocks = append(blocks, slack.NewSectionBlock(nil, fields[:min(len(fields), slackFields)], nil))
	for _, c := range s.Chapters {
		title := slack.NewTextBlockObject(slack.MarkdownType, "*"+c.Title+"*", false, true)
		blocks = append(blocks, slack.NewSectionBlock(title, nil, nil))
		section(c.Lines...)
	}
	if len(s.Links) > 0 {
		var links []string
		for _, l := range s.Links {
			links = append(links, "<"+slackURL.Replace(l.URL)+"|"+l.Name+">")
		}
		blocks = append(blocks, slack.NewContextBlock("", slack.NewTextBlockObject(slack.MarkdownType, strings.Join(links, " · "), false, true)))
	}
	var ids []slack.MixedElement
	for _, id := range s.IDs {
		ids = append(ids, plain(id.Name+" "+id.Value, slackField))
	}
	blocks = append(blocks, slack.NewContextBlock("", ids...))
	never := false
	return slack.WebhookMessage{
		Channel:     n.To, // ignored by today's webhooks, honoured by the legacy ones
		Text:        escapeSlack(heal.Clean(s.Mark+" "+s.Headline+" — "+string(n.Severity), slackText)),
		Blocks:      &slack.Blocks{BlockSet: blocks[:min(len(blocks), slackBlocks)]},
		UnfurlLinks: &never,
		UnfurlMedia: &never,
	}
}

// slackURL writes an address so that it does not end the link that it is in.
var slackURL = strings.NewReplacer("&", "&amp;", "<", "%3C", ">", "%3E", "|", "%7C")

// plain returns text as an element that Slack shows as it is.
func plain(text string, limit int) *slack.TextBlockObject {
	return slack.NewTextBlockObject(slack.PlainTextType, clip(text, limit), false, false)
}

// clip keeps the line breaks, which are ours, unlike heal.Clean.
func clip(text string, limit int) string {
	runes := []rune(text)
	if len(runes) <= limit {
		return text
	}
	return string(runes[:limit-1]) + "…"
}

// escapeSlack makes text inert in mrkdwn: & < > as Slack asks, which ends every
// mention and link, and the characters of markup as others that look alike.
func escapeSlack(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "*", "∗", "_", "ˍ", "~", "∼", "`", "ˋ").Replace(text)
}
