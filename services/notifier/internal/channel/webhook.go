package channel

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/selfheal/selfheal/pkg/config"
	"github.com/selfheal/selfheal/pkg/heal"
	"github.com/selfheal/selfheal/pkg/outbound"
	"github.com/selfheal/selfheal/services/notifier/internal/route"
)

// A webhook is a machine that gets every result as the CloudEvent it was. A
// repetition has the same id, also as the Idempotency-Key. With a secret that
// it shares with us it can tell that an event is ours, and when we sent it.
type webhook struct {
	*poster
	secret config.Secret
}

func openWebhook(o options) (*Line, error) {
	if o.WebhookURL == "" {
		return nil, nil
	}
	p, err := newPoster("webhook_url", o.WebhookURL, o.timeout)
	if err != nil {
		return nil, err
	}
	line := &Line{Channel: webhook{p, o.WebhookSecret}, Listeners: []route.Listener{{Audience: route.Record}}}
	if secret := o.WebhookSecret.Reveal(); secret != "" {
		p.secrets = append(p.secrets, secret)
		if len(secret) < outbound.LeastSecret {
			line.Warnings = append(line.Warnings, fmt.Sprintf("webhook_secret has %d bytes: less than %d can be guessed", len(secret), outbound.LeastSecret))
		}
	}
	return line, nil
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
	header := http.Header{"Content-Type": {heal.ContentType}, "Idempotency-Key": {e.ID}}
	if secret := w.secret.Reveal(); secret != "" {
		header.Set(outbound.SignatureHeader, outbound.Signature(secret, time.Now(), body))
	}
	return w.post(ctx, header, body)
}
