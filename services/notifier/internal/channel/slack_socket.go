package channel

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/slack-go/slack"
	"golang.org/x/sync/errgroup"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/outbound"
	"github.com/selfheal/selfheal/pkg/pause"
)

// A slackSocket hears which buttons people press, by Socket Mode
// (https://docs.slack.dev/apis/events-api/using-socket-mode): we dial Slack, so
// nobody needs a way in to us. Only people of the allow-list count, by their
// ids, and all that it passes on is who pressed what.
type slackSocket struct {
	bot       *slackBot
	appToken  config.Secret
	approvers []string
	timeout   time.Duration
}

// An envelope is what Slack sends.
type envelope struct {
	ID      string `json:"envelope_id"`
	Type    string `json:"type"` // hello, interactive, disconnect, …
	Payload struct {
		Type string `json:"type"`
		User struct {
			ID string `json:"id"`
		} `json:"user"`
		Container struct {
			Channel string `json:"channel_id"`
			TS      string `json:"message_ts"`
		} `json:"container"`
		Actions []struct {
			ID    string `json:"action_id"`
			Value string `json:"value"`
		} `json:"actions"`
	} `json:"payload"`
}

// silence is how long a connection may say nothing: Slack pings several times a minute.
const silence = time.Minute

// answers implements Line.Answers. It returns only when ctx is done.
func (s *slackSocket) answers(ctx context.Context, press func(context.Context, Press) string, hears func(error)) error {
	for failed := 0; ctx.Err() == nil; {
		begun := time.Now()
		stood, err := s.connection(ctx, press, hears)
		if err != nil && ctx.Err() == nil {
			hears(err)
		}
		failed++
		if long := time.Since(begun) > silence; stood && long {
			failed = 0
			if err != nil {
				failed = 1
			}
		}
		pause.For(ctx, pauseAfter(failed, err))
	}
	return nil
}

// pauseAfter doubles from 1 s to 1 min, or is what Slack asked for; what only a
// person can mend, such as a token that was revoked, is tried every 5 minutes.
// A part of it is chance, so that not all who were cut off come back at once.
// What Slack ended after it had stood for long is opened anew at once.
func pauseAfter(failed int, err error) time.Duration {
	if failed == 0 {
		return 0
	}
	var send *SendError
	if errors.As(err, &send) && send.After > 0 {
		return send.After
	}
	wait := min(time.Second<<min(failed-1, 6), time.Minute)
	if slices.Contains(slackRefused, slackWord(err)) {
		wait = 5 * time.Minute
	}
	return wait*3/4 + rand.N(wait/2)
}

// slackRefused are the errors of a token that opens no socket.
var slackRefused = []string{"invalid_auth", "not_authed", "not_allowed_token_type", "account_inactive", "token_revoked", "token_expired", "missing_scope", "no_permission"}

// connection listens until the connection ends, and reports whether it stood;
// Slack ends each after some hours, which is no error.
func (s *slackSocket) connection(ctx context.Context, press func(context.Context, Press) string, hears func(error)) (stood bool, err error) {
	opened, err := s.bot.ask(ctx, "apps.connections.open", s.appToken, "application/x-www-form-urlencoded", nil)
	if err != nil {
		return false, err
	}
	conn, err := s.dial(ctx, opened.URL)
	if err != nil {
		return false, errors.New("slack_app_token: the socket cannot be reached") // its address holds a ticket
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer func() { _ = conn.Close() }()
	conn.SetReadLimit(maxAnswer)
	alive := func() error { return conn.SetReadDeadline(time.Now().Add(silence)) }
	conn.SetPingHandler(func(data string) error {
		_ = alive()
		return conn.WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(s.timeout))
	})
	var answers errgroup.Group // each may have to wait for its turn in a channel
	answers.SetLimit(8)
	defer func() { _ = answers.Wait() }()
	broken := errors.New("slack_app_token: the socket broke off") // what it was may quote its address
	for {
		if alive() != nil {
			return stood, broken
		}
		var e envelope
		if conn.ReadJSON(&e) != nil {
			return stood, broken
		}
		switch e.Type {
		case "hello":
			stood = true
			hears(nil)
		case "disconnect":
			if !stood {
				return false, errors.New("slack_app_token: Slack ended the connection before it stood")
			}
			return true, nil
		}
		if e.ID != "" { // within 3 s, or Slack shows a warning and sends it again
			if conn.SetWriteDeadline(time.Now().Add(s.timeout)) != nil || conn.WriteJSON(map[string]string{"envelope_id": e.ID}) != nil {
				return stood, broken
			}
		}
		if e.Type == "interactive" && e.Payload.Type == "block_actions" {
			answers.Go(func() error { s.pressed(ctx, e, press); return nil })
		}
	}
}

// dial goes where Slack says, but only to itself, by TLS.
func (s *slackSocket) dial(ctx context.Context, address string) (*websocket.Conn, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	api := s.bot.methods["apps.connections.open"].url.Hostname()
	host := u.Hostname()
	ours := host == api || host == "slack.com" || strings.HasSuffix(host, ".slack.com") || strings.HasSuffix(host, ".slack-gov.com")
	secure := u.Scheme == "wss" || u.Scheme == "ws" && outbound.Loopback(host)
	if !ours || !secure {
		return nil, errors.New("not an address of Slack's")
	}
	dialer := outbound.Dialer(host, outbound.Anywhere, s.timeout)
	conn, resp, err := (&websocket.Dialer{NetDialContext: dialer.DialContext, HandshakeTimeout: s.timeout}).DialContext(ctx, address, nil)
	if resp != nil && resp.Body != nil {
		_ = resp.Body.Close()
	}
	return conn, err
}

// pressed passes on what people who may have pressed, and shows the answer in
// the thread, where everybody sees who did what.
func (s *slackSocket) pressed(ctx context.Context, e envelope, press func(context.Context, Press) string) {
	p := e.Payload
	for _, a := range p.Actions {
		if !slices.Contains([]string{Approve, Reject, PauseIt, Explain}, a.ID) {
			continue
		}
		incident, decision, _ := strings.Cut(a.Value, " ")
		said := "Only people of slack_approvers may use these buttons; nothing was done."
		if slices.Contains(s.approvers, p.User.ID) {
			said = press(ctx, Press{User: p.User.ID, Action: a.ID, Incident: incident, Decision: decision})
		}
		text := plain(said, slackSection)
		_, _ = s.bot.call(ctx, "chat.postMessage", p.Container.Channel, slackMessage{
			Channel: p.Container.Channel, ThreadTS: p.Container.TS, Text: escapeSlack(clip(said, slackText)),
			Blocks: []slack.Block{slack.NewSectionBlock(text, nil, nil)},
		}) // the answer is a courtesy: what was asked for is done, or not, all the same
	}
}
