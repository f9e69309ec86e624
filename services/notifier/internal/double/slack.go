// Package double stands in for Slack and PagerDuty in the tests of this module.
// Each enforces what its documentation says of formats, lengths and rates, and
// keeps what a person would see. What it would refuse is in Wrong.
package double

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// Token is the bot token that Slack knows.
const (
	Token    = "xoxb-CANARY-bot-token"
	AppToken = "xapp-CANARY-app-token"
)

// A Post is a message in a channel.
type Post struct {
	Channel, TS, Thread string
	Text                string
	Headline            string
	Buttons             []string
	Value               string // of the buttons
	Conversation        string
	Body                string // as it was sent
	Edits               int
}

// Slack is the Web API and Socket Mode.
type Slack struct {
	URL string // ends in a slash

	mu      sync.Mutex
	posts   []*Post
	last    map[string]time.Time
	wrong   []string
	limited int
	serial  int
	sockets []*websocket.Conn
	opened  chan struct{}
	pace    time.Duration // between two messages to one channel; 0 is none
	answer  func(method string, w http.ResponseWriter) bool
	written chan struct{}
}

// NewSlack runs Slack until the test ends; it takes one message to a channel in pace.
func NewSlack(t testing.TB, pace time.Duration) *Slack {
	s := &Slack{last: map[string]time.Time{}, pace: pace, opened: make(chan struct{}, 16), written: make(chan struct{}, 1<<16)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/{method}", s.method)
	mux.HandleFunc("GET /socket", s.socket)
	srv := httptest.NewServer(mux)
	t.Cleanup(func() { s.Drop(); srv.Close() })
	s.URL = srv.URL + "/api/"
	return s
}

// Answer has every call answered by f; it returns false to have it answered as ever.
func (s *Slack) Answer(f func(method string, w http.ResponseWriter) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// Posts are the messages that stand in a channel, threads left out.
func (s *Slack) Posts(channel string) []Post {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Post
	for _, p := range s.posts {
		if p.Thread == "" && (channel == "" || p.Channel == id(channel)) {
			all = append(all, *p)
		}
	}
	return all
}

// Replies are the texts below a message.
func (s *Slack) Replies(ts string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, p := range s.posts {
		if p.Thread == ts {
			all = append(all, p.Text)
		}
	}
	return all
}

// Wrong is all that Slack would have refused, and Limited how often somebody
// was too quick.
func (s *Slack) Wrong() []string { s.mu.Lock(); defer s.mu.Unlock(); return slices.Clone(s.wrong) }

// Limited is how many calls were too quick.
func (s *Slack) Limited() int { s.mu.Lock(); defer s.mu.Unlock(); return s.limited }

// Written has a value for each message that was posted or edited.
func (s *Slack) Written() <-chan struct{} { return s.written }

// Opened has a value for each socket that was opened.
func (s *Slack) Opened() <-chan struct{} { return s.opened }

// Drop closes the sockets.
func (s *Slack) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.sockets {
		_ = c.Close()
	}
	s.sockets = nil
}

// Press has somebody press a button of a message.
func (s *Slack) Press(user, action string, p Post) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sockets) == 0 {
		return fmt.Errorf("no socket")
	}
	return s.sockets[len(s.sockets)-1].WriteJSON(map[string]any{
		"envelope_id": "e-1", "type": "interactive", "accepts_response_payload": false,
		"payload": map[string]any{
			"type": "block_actions", "user": map[string]string{"id": user, "name": "anna"},
			"container": map[string]string{"channel_id": p.Channel, "message_ts": p.TS},
			"actions":   []map[string]string{{"action_id": action, "block_id": "selfheal", "value": p.Value, "type": "button"}},
		},
	})
}

// id is the id of a channel by its name.
func id(channel string) string {
	if name, ok := strings.CutPrefix(channel, "#"); ok {
		return "C" + strings.ToUpper(strings.ReplaceAll(name, "-", ""))
	}
	return channel
}

func (s *Slack) method(w http.ResponseWriter, r *http.Request) {
	method := r.PathValue("method")
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answer != nil && s.answer(method, w) {
		return
	}
	want := Token
	if method == "apps.connections.open" {
		want = AppToken
	}
	if r.Header.Get("Authorization") != "Bearer "+want {
		refuse(w, "invalid_auth")
		return
	}
	switch method {
	case "apps.connections.open":
		reply(w, map[string]any{"url": "ws" + strings.TrimSuffix(strings.TrimPrefix(s.URL, "http"), "api/") + "socket?ticket=CANARY-ticket"})
	case "chat.postMessage", "chat.update":
		s.write(w, method, body)
	case "conversations.list":
		reply(w, map[string]any{"channels": []map[string]string{{"id": "CMONITORING", "name": "monitoring"}, {"id": "CINCIDENTS", "name": "incidents"}}})
	case "conversations.history":
		s.history(w, body)
	default:
		refuse(w, "unknown_method")
	}
}

func reply(w http.ResponseWriter, v map[string]any) {
	v["ok"] = true
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, word string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	_ = json.NewEncoder(w).Encode(map[string]any{"ok": false, "error": word})
}

type text struct {
	Type, Text string
	Emoji      bool
}

type element struct {
	Type     string
	Text     json.RawMessage // of a button an object, of a context's element a string
	ActionID string          `json:"action_id"`
	Value    string
	Confirm  *struct{ Title, Text, Confirm, Deny text }
}

type message struct {
	Channel, TS, Text string
	ThreadTS          string `json:"thread_ts"`
	Metadata          struct {
		Type    string            `json:"event_type"`
		Payload map[string]string `json:"event_payload"`
	}
	Blocks []struct {
		Type     string
		Text     *text
		Fields   []text
		Elements []element
	}
}

func (s *Slack) write(w http.ResponseWriter, method string, body []byte) {
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		s.wrong = append(s.wrong, err.Error())
		refuse(w, "invalid_json")
		return
	}
	channel := id(m.Channel)
	now := time.Now()
	// A little is allowed for what passes on the way.
	if at, before := s.last[channel]; before && now.Sub(at) < s.pace*95/100 {
		s.limited++
		w.Header().Set("Retry-After", strconv.Itoa(1))
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	s.last[channel] = now
	if bad := Blocks(body); len(bad) > 0 {
		s.wrong = append(s.wrong, bad...)
		refuse(w, "invalid_blocks")
		return
	}
	p := s.post(channel, m.TS)
	switch {
	case method == "chat.update" && p == nil:
		refuse(w, "message_not_found")
		return
	case method == "chat.update":
		p.Edits++
	default:
		s.serial++
		p = &Post{Channel: channel, TS: fmt.Sprintf("17.%06d", s.serial), Thread: m.ThreadTS, Conversation: m.Metadata.Payload["conversation"]}
		s.posts = append(s.posts, p)
	}
	p.Text, p.Body, p.Buttons, p.Value = m.Text, string(body), nil, ""
	for _, b := range m.Blocks {
		if b.Type == "header" && b.Text != nil {
			p.Headline = b.Text.Text
		}
		for _, e := range b.Elements {
			if e.Type == "button" {
				p.Buttons, p.Value = append(p.Buttons, e.ActionID), e.Value
			}
		}
	}
	s.written <- struct{}{}
	reply(w, map[string]any{"channel": channel, "ts": p.TS})
}

func (s *Slack) post(channel, ts string) *Post {
	for _, p := range s.posts {
		if p.Channel == channel && p.TS == ts && ts != "" {
			return p
		}
	}
	return nil
}

func (s *Slack) history(w http.ResponseWriter, body []byte) {
	form := map[string]string{}
	for pair := range strings.SplitSeq(string(body), "&") {
		k, v, _ := strings.Cut(pair, "=")
		form[k] = v
	}
	var all []map[string]any
	for _, p := range slices.Backward(s.posts) {
		if p.Channel == form["channel"] && p.Thread == "" {
			all = append(all, map[string]any{"ts": p.TS, "metadata": map[string]any{"event_type": "selfheal_incident", "event_payload": map[string]string{"conversation": p.Conversation}}})
		}
	}
	reply(w, map[string]any{"messages": all[:min(len(all), 200)]})
}

func (s *Slack) socket(w http.ResponseWriter, r *http.Request) {
	conn, err := (&websocket.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		return
	}
	s.mu.Lock()
	s.sockets = append(s.sockets, conn)
	err = conn.WriteJSON(map[string]any{"type": "hello", "num_connections": 1})
	s.mu.Unlock()
	if err != nil {
		return
	}
	s.opened <- struct{}{}
	for {
		var ack map[string]any
		if conn.ReadJSON(&ack) != nil {
			return
		}
	}
}

// Blocks is what Slack would refuse of a message, by
// https://docs.slack.dev/reference/block-kit/blocks.
func Blocks(body []byte) []string {
	var m message
	if err := json.Unmarshal(body, &m); err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	bad := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	check := func(what string, t text, most int) {
		if n := utf8.RuneCountInString(t.Text); n < 1 || n > most {
			bad("%s has %d characters, want 1 to %d", what, n, most)
		}
		if t.Type != "plain_text" && t.Type != "mrkdwn" {
			bad("%s is %q", what, t.Type)
		}
	}
	if len(m.Blocks) > 50 {
		bad("%d blocks", len(m.Blocks))
	}
	if m.Text == "" && len(m.Blocks) == 0 || utf8.RuneCountInString(m.Text) > 40_000 {
		bad("text of %d characters", utf8.RuneCountInString(m.Text))
	}
	limits := map[string]int{"header": 150, "section": 3000}
	for i, b := range m.Blocks {
		what := fmt.Sprintf("block %d, %s", i, b.Type)
		if !slices.Contains(append(slices.Collect(maps.Keys(limits)), "context", "actions"), b.Type) {
			bad("%s", what)
		}
		if b.Text != nil {
			check(what, *b.Text, limits[b.Type])
			if b.Type == "header" && b.Text.Type != "plain_text" {
				bad("%s is not plain", what)
			}
		}
		if len(b.Fields) > 10 || b.Type == "section" && b.Text == nil && len(b.Fields) == 0 {
			bad("%s has %d fields", what, len(b.Fields))
		}
		for _, f := range b.Fields {
			check(what+" field", f, 2000)
		}
		if b.Type == "actions" && (len(b.Elements) == 0 || len(b.Elements) > 25) || b.Type == "context" && len(b.Elements) > 10 {
			bad("%s has %d elements", what, len(b.Elements))
		}
		for _, e := range b.Elements {
			if b.Type != "actions" {
				continue
			}
			var label text
			if err := json.Unmarshal(e.Text, &label); err != nil || e.Type != "button" || e.ActionID == "" || len(e.Value) > 2000 {
				bad("%s: %s", what, e.ActionID)
			}
			check(what+" button", label, 75)
			if c := e.Confirm; c != nil {
				check(what+" title", c.Title, 100)
				check(what+" question", c.Text, 300)
				check(what+" yes", c.Confirm, 30)
				check(what+" no", c.Deny, 30)
			}
		}
	}
	return wrong
}
