package channel

import (
	"context"
	"encoding/json"
	"net/http"

	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
)

// A webhook is a machine that gets every result as the CloudEvent it was. A
// repetition has the same id, also as the Idempotency-Key.
type webhook struct{ *poster }

func openWebhook(o options) (*Line, error) {
	if o.WebhookURL == "" {
		return nil, nil
	}
	p, err := newPoster("webhook_url", o.WebhookURL, o.timeout)
	if err != nil {
		return nil, err
	}
	return &Line{Channel: webhook{p}, Listeners: []route.Listener{{Audience: route.Record}}}, nil
}

// Send implements Channel.
func (w webhook) Send(ctx context.Context, n heal.Notification) error {
	if n.Origin == (heal.Origin{}) {
		return permanent("webhook_url: notification without the origin of its result cannot be passed on as an event")
	}
	e := n.Origin.Event(n.Result)
	body, err := json.Marshal(e)
	if err != nil {
		return permanent("webhook_url: %s", err)
	}
	return w.post(ctx, http.Header{"Content-Type": {heal.ContentType}, "Idempotency-Key": {e.ID}}, body)
}
