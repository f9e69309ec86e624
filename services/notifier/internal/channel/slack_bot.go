package channel

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/slack-go/slack"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/outbound"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
	"github.com/selfheal/selfheal/services/notifier/internal/story"
)

// A slackBot has one message for each incident, which it edits as the incident
// goes on, and a thread beneath it with what happened when. It may post to any
// channel that it was invited to.
//
// Of a first message that we died of it looks for what became of it, by the
// metadata of Slack's own history; it needs the scopes channels:read and
// channels:history for that, and without them may rarely post it twice.
type slackBot struct {
	token   config.Secret
	methods map[string]*poster // each is left alone by itself when Slack asks so
	buttons bool

	mu    sync.Mutex
	turns map[string]*turn // by channel
}

// slackMethods are what is called of https://docs.slack.dev/reference/methods.
var slackMethods = []string{"chat.postMessage", "chat.update", "conversations.list", "conversations.history", "apps.connections.open"}

func openSlackBot(o options) (*Line, error) {
	bot := &slackBot{token: o.SlackBotToken, methods: map[string]*poster{}, turns: map[string]*turn{}}
	for _, method := range slackMethods {
		p, err := newPoster("slack_api_url", config.Secret(o.SlackAPIURL+method), o.timeout)
		if err != nil {
			return nil, err
		}
		if slices.Contains([]string{"slack.com", "slack-gov.com"}, p.url.Hostname()) {
			p.limit(outbound.Public)
		}
		p.secrets = append(secretsOf(o.SlackBotToken, o.SlackAppToken), p.secrets...)
		bot.methods[method] = p
	}
	line := &Line{Channel: bot, Listeners: []route.Listener{
		{To: o.SlackChannel, Audience: route.Monitoring, Edits: true},
		{To: o.SlackIncidentChannel, Audience: route.Incident, Edits: true},
	}}
	for _, to := range o.routed {
		if to != o.SlackChannel && to != o.SlackIncidentChannel {
			line.Listeners = append(line.Listeners, route.Listener{To: to, Audience: route.Routed, Edits: true})
		}
	}
	if o.SlackWebhookURL != "" || o.SlackIncidentWebhookURL != "" {
		line.Warnings = append(line.Warnings, "slack_bot_token is set, so slack_webhook_url and slack_incident_webhook_url are not used")
	}
	switch app := o.SlackAppToken != ""; {
	case app && len(o.SlackApprovers) == 0:
		line.Warnings = append(line.Warnings, "slack_app_token is set, but slack_approvers names nobody who may use the buttons; there are none")
	case !app && len(o.SlackApprovers) > 0:
		line.Warnings = append(line.Warnings, "slack_approvers is set, but without slack_app_token there are no buttons")
	case app:
		bot.buttons = true
		s := &slackSocket{bot: bot, appToken: o.SlackAppToken, approvers: o.SlackApprovers, timeout: o.timeout}
		line.Answers = s.answers
	}
	return line, nil
}

// secretsOf are the texts that nobody may see.
func secretsOf(secrets ...config.Secret) []string {
	var all []string
	for _, s := range secrets {
		if s != "" {
			all = append(all, s.Reveal())
		}
	}
	return all
}

// Send implements Channel.
func (b *slackBot) Send(ctx context.Context, n heal.Notification) error {
	_, err := b.Tell(ctx, n, "")
	return err
}

// slackBegun stands where a Ref will stand once the first message was taken.
const slackBegun Ref = "?"

// During implements talker.
func (b *slackBot) During(_ heal.Notification, before Ref) Ref {
	if before == "" {
		return slackBegun
	}
	return before
}

// Tell implements talker.
func (b *slackBot) Tell(ctx context.Context, n heal.Notification, before Ref) (Ref, error) {
	if before == slackBegun {
		found, err := b.find(ctx, n)
		if err != nil {
			return before, err
		}
		before = found
	}
	m := b.render(n)
	id, ts, known := before.slack()
	if known {
		b.alias(n.To, id)
	}
	if known {
		m.Channel, m.TS = id, ts
		switch _, err := b.call(ctx, "chat.update", id, m); {
		case err == nil:
			return before, b.reply(ctx, n, id, ts)
		case !slackGone(err):
			return before, err
		}
		m.TS = "" // somebody deleted it
	}
	m.Channel = n.To
	m.Metadata = &slackMetadata{Type: slackEventType, Payload: map[string]string{"conversation": n.Conversation()}}
	answer, err := b.call(ctx, "chat.postMessage", n.To, m)
	if err != nil {
		return before, err
	}
	b.alias(n.To, answer.Channel)
	return slackRef(answer.Channel, answer.TS), nil
}

// reply adds what is new to the thread. Most people have the message itself
// muted once it was read, and a thread shows when things happened.
func (b *slackBot) reply(ctx context.Context, n heal.Notification, id, ts string) error {
	if n.Digest != nil && !n.Digest.Over {
		return nil
	}
	text := story.Update(n)
	_, err := b.call(ctx, "chat.postMessage", id, slackMessage{
		Channel: id, ThreadTS: ts, Text: escapeSlack(text),
		Blocks: []slack.Block{slack.NewSectionBlock(plain(text, slackSection), nil, nil)},
	})
	return err
}

func slackRef(channel, ts string) Ref { return Ref(channel + "/" + ts) }

func (r Ref) slack() (channel, ts string, known bool) { return strings.Cut(string(r), "/") }

// A slackMessage is what chat.postMessage and chat.update take.
type slackMessage struct {
	Channel     string         `json:"channel"`
	TS          string         `json:"ts,omitempty"`
	ThreadTS    string         `json:"thread_ts,omitempty"`
	Text        string         `json:"text"`
	Blocks      []slack.Block  `json:"blocks"`
	Metadata    *slackMetadata `json:"metadata,omitempty"`
	UnfurlLinks bool           `json:"unfurl_links"`
	UnfurlMedia bool           `json:"unfurl_media"`
}

type slackMetadata struct {
	Type    string            `json:"event_type"`
	Payload map[string]string `json:"event_payload"`
}

const slackEventType = "selfheal_incident"

// render is the message with its buttons.
func (b *slackBot) render(n heal.Notification) slackMessage {
	w := renderSlack(n)
	m := slackMessage{Text: w.Text, Blocks: w.Blocks.BlockSet}
	if !b.buttons || n.Digest != nil || n.Phase.Over() {
		return m
	}
	value := n.Conversation() + " " + n.About().ID
	if len(value) > slackValue {
		return m // an id that is not ours
	}
	button := func(action, text string, style slack.Style, sure string) slack.BlockElement {
		e := slack.NewButtonBlockElement(action, value, plain(text, slackButton)).WithStyle(style)
		if sure != "" {
			e.Confirm = slack.NewConfirmationBlockObject(plain(text+"?", 100), plain(sure, 300), plain("Yes", 30), plain("No", 30))
		}
		return e
	}
	var row []slack.BlockElement
	if n.Phase == heal.PhaseWaiting {
		d := n.About()
		row = append(row, button(Approve, "Approve", slack.StylePrimary, fmt.Sprintf("%s of %s is carried out if it still holds.", d.Strategy, d.Target)),
			button(Reject, "Reject", slack.StyleDanger, ""))
	}
	row = append(row, button(PauseIt, "Pause all healing", "", "Nothing in the cluster is changed for 1 hour, or until selfheal resume."), button(Explain, "Explain", "", ""))
	m.Blocks = append(m.Blocks[:min(len(m.Blocks), slackBlocks-1)], slack.NewActionBlock("selfheal", row...))
	return m
}

// Slack's limits of buttons (https://docs.slack.dev/reference/block-kit/block-elements/button-element).
const (
	slackValue  = 2000
	slackButton = 75
)

// A slackAnswer is what Slack says: 200 in any case but too many requests.
type slackAnswer struct {
	OK       bool   `json:"ok"`
	Error    string `json:"error"`
	Channel  string `json:"channel"`
	TS       string `json:"ts"`
	URL      string `json:"url"`
	Channels []struct {
		ID   string `json:"id"`
		Name string `json:"name"`
	} `json:"channels"`
	Messages []struct {
		TS       string        `json:"ts"`
		Metadata slackMetadata `json:"metadata"`
	} `json:"messages"`
	Meta struct {
		Next string `json:"next_cursor"`
	} `json:"response_metadata"`
}

// slackHopeless are the errors that the message is to blame for. All others,
// such as a token that was revoked or a channel that we were not invited to,
// somebody may mend.
var slackHopeless = []string{
	"invalid_blocks", "invalid_blocks_format", "msg_too_long", "msg_blocks_too_long", "no_text", "invalid_arguments", "invalid_arg_name",
	"invalid_metadata_format", "invalid_metadata_schema", "metadata_too_large", "invalid_json", "json_not_object", "too_many_attachments",
}

// call asks Slack for something that is about a channel, at that channel's pace.
func (b *slackBot) call(ctx context.Context, method, channel string, v any) (slackAnswer, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return slackAnswer{}, permanent("slack: %s", err)
	}
	p := b.methods[method]
	t := b.turn(channel)
	if err := t.take(ctx); err != nil {
		return slackAnswer{}, p.failed(err)
	}
	defer t.giveBack()
	return b.ask(ctx, method, b.token, "application/json; charset=utf-8", body)
}

func (b *slackBot) ask(ctx context.Context, method string, token config.Secret, contentType string, body []byte) (slackAnswer, error) {
	var a slackAnswer
	p := b.methods[method]
	data, err := p.exchange(ctx, http.Header{"Content-Type": {contentType}, "Authorization": {"Bearer " + token.Reveal()}}, body, maxAnswer)
	if err != nil {
		return a, err
	}
	if err := json.Unmarshal(data, &a); err != nil {
		return a, &SendError{Reason: fmt.Sprintf("slack_api_url: %s answered %s with what is not Slack's JSON", p.url.Hostname(), method)}
	}
	if a.OK {
		return a, nil
	}
	word := a.Error
	if !errorWord.MatchString(word) {
		word = "an error that it does not name"
	}
	setting := "slack_bot_token"
	if method == "apps.connections.open" {
		setting = "slack_app_token"
	}
	said := fmt.Sprintf("%s: %s answered %s: %s", setting, p.url.Hostname(), method, p.scrub(word))
	return a, &slackError{SendError{Reason: said, Permanent: slices.Contains(slackHopeless, a.Error)}, a.Error}
}

// A slackError is a SendError with Slack's word for it.
type slackError struct {
	SendError
	word string
}

// Unwrap makes it a SendError.
func (e *slackError) Unwrap() error { return &e.SendError }

func slackWord(err error) string {
	if e, ok := err.(*slackError); ok { //nolint:errorlint // ask returns it bare
		return e.word
	}
	return ""
}

func slackGone(err error) bool {
	return slices.Contains([]string{"message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found"}, slackWord(err))
}

// A turn lets one call for a channel go at a time, and the next a while after
// the answer: measured from the asking, two could reach Slack closer together
// than we sent them.
type turn struct {
	free chan struct{} // holds one value while nobody has the turn
	next time.Time     // read and written by who has the turn
}

// take waits for the turn. The caller gives it back.
func (t *turn) take(ctx context.Context) error {
	select {
	case <-t.free:
	case <-ctx.Done():
		return ctx.Err()
	}
	timer := time.NewTimer(time.Until(t.next))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		t.free <- struct{}{}
		return ctx.Err()
	}
}

func (t *turn) giveBack() {
	t.next = time.Now().Add(time.Duration(float64(time.Second) / float64(slackPace)))
	t.free <- struct{}{}
}

// turn is that of a channel.
func (b *slackBot) turn(channel string) *turn {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.turns[channel] == nil {
		b.turns[channel] = &turn{free: make(chan struct{}, 1)}
		b.turns[channel].free <- struct{}{}
	}
	return b.turns[channel]
}

// alias has the turn of a channel's name hold for its id as well.
func (b *slackBot) alias(name, id string) {
	t := b.turn(name)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turns[id] = t
}

// find looks for the message that a call began which nobody knows the end of.
func (b *slackBot) find(ctx context.Context, n heal.Notification) (Ref, error) {
	id, err := b.channelID(ctx, n.To)
	if id == "" || err != nil {
		return "", err
	}
	form := url.Values{"channel": {id}, "limit": {"200"}, "include_all_metadata": {"true"}, "oldest": {strconv.FormatInt(time.Now().Add(-25*time.Hour).Unix(), 10)}}
	for range 10 {
		a, err := b.ask(ctx, "conversations.history", b.token, "application/x-www-form-urlencoded", []byte(form.Encode()))
		if err != nil {
			return "", mayNot(err)
		}
		for _, m := range a.Messages {
			if m.Metadata.Type == slackEventType && m.Metadata.Payload["conversation"] == n.Conversation() {
				return slackRef(id, m.TS), nil
			}
		}
		if a.Meta.Next == "" {
			break
		}
		form.Set("cursor", a.Meta.Next)
	}
	return "", nil
}

// mayNot passes over what we have no right to: the message is posted again then.
func mayNot(err error) error {
	if slices.Contains([]string{"missing_scope", "not_in_channel", "channel_not_found", "no_permission"}, slackWord(err)) {
		return nil
	}
	return err
}

// channelID finds the id of a channel by its name, or nothing.
func (b *slackBot) channelID(ctx context.Context, to string) (string, error) {
	name, isName := strings.CutPrefix(to, "#")
	if !isName {
		return to, nil
	}
	form := url.Values{"limit": {"1000"}, "exclude_archived": {"true"}, "types": {"public_channel"}}
	for range 20 {
		a, err := b.ask(ctx, "conversations.list", b.token, "application/x-www-form-urlencoded", []byte(form.Encode()))
		if err != nil {
			return "", mayNot(err)
		}
		for _, c := range a.Channels {
			if c.Name == name {
				return c.ID, nil
			}
		}
		if a.Meta.Next == "" {
			break
		}
		form.Set("cursor", a.Meta.Next)
	}
	return "", nil
}
