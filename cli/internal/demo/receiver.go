package demo

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/selfheal/selfheal/pkg/heal"
)

// A receiver stands in for Slack and for a webhook of the user's.
type receiver struct {
	url string
	srv *http.Server

	mu      sync.Mutex
	counted tally                      // guarded by mu
	slack   func(channel, text string) // told each message that Slack would show; guarded by mu
}

// A tally counts what was received.
type tally struct {
	Slack   int
	Webhook int
	Bad     int // webhook calls that were no CloudEvent of ours
}

// startReceiver listens on a free port of the loopback interface.
func startReceiver(ctx context.Context) (*receiver, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{url: "http://" + l.Addr().String(), slack: func(string, string) {}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /webhook", r.webhook)
	mux.HandleFunc("POST /slack/{channel}", r.slackWebhook)
	r.srv = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = r.srv.Serve(l) }() // until stop
	return r, nil
}

// shows has each message of Slack told to slack from now on.
func (r *receiver) shows(slack func(channel, text string)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.slack = slack
}

func (r *receiver) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return r.srv.Shutdown(ctx)
}

func (r *receiver) received() tally {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counted
}

func (r *receiver) count(change func(*tally)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.counted)
}

func (r *receiver) webhook(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if _, err := heal.Decode[heal.Result](body); err != nil {
		r.count(func(t *tally) { t.Bad++ })
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	r.count(func(t *tally) { t.Webhook++ })
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) slackWebhook(w http.ResponseWriter, req *http.Request) {
	var m slackMessage
	if err := json.NewDecoder(http.MaxBytesReader(w, req.Body, 1<<20)).Decode(&m); err != nil {
		http.Error(w, "invalid_payload", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.counted.Slack++
	show := r.slack
	r.mu.Unlock()
	show("#"+req.PathValue("channel"), m.shown())
	_, _ = io.WriteString(w, "ok")
}

// A slackMessage is what of an incoming webhook's payload can be seen
// (https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks).
type slackMessage struct {
	Text        string         `json:"text"`
	Blocks      []slackBlock   `json:"blocks"`
	Attachments []slackMessage `json:"attachments"`
}

type slackBlock struct {
	Text     *slackText  `json:"text"`
	Fields   []slackText `json:"fields"`
	Elements []slackText `json:"elements"`
}

type slackText struct {
	Text string `json:"text"`
}

// shown is the text on the screen. Slack shows the blocks instead of the text
// where there are any.
func (m slackMessage) shown() string {
	var parts []string
	if len(m.Blocks) == 0 {
		parts = append(parts, m.Text)
	}
	for _, b := range m.Blocks {
		texts := append(b.Fields, b.Elements...)
		if b.Text != nil {
			texts = append([]slackText{*b.Text}, texts...)
		}
		for _, t := range texts {
			parts = append(parts, t.Text)
		}
	}
	for _, a := range m.Attachments {
		parts = append(parts, a.shown())
	}
	return slackEntities.Replace(strings.Join(parts, "\n"))
}

var slackEntities = strings.NewReplacer("&lt;", "<", "&gt;", ">", "&amp;", "&")
